"""``sessions``: what there is."""

from __future__ import annotations

from datetime import datetime

import click
from rich.table import Table

from .connecting import connect
from .drawing import milliseconds
from .shell import asynchronous, json_option, out, print_json, server_option

_STYLES = {"running": "cyan", "succeeded": "green", "failed": "red", "timed_out": "red", "cancelled": "yellow"}


@click.command(short_help="List sessions.")
@click.option("--live", "only_live", is_flag=True, help="Only those that have not ended.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--before", type=click.IntRange(0), default=0, metavar="N", help="Older ones: what a page before said.")
@server_option
@json_option
@asynchronous
async def sessions(only_live: bool, limit: int, before: int, server: str | None, as_json: bool) -> None:
    """Sessions, newest first: those that run and those kept after their end."""
    async with connect(server, name="dspex-sessions") as client:
        listed = await client.sessions(ended=not only_live, limit=limit, before=before)
    if as_json:
        print_json(listed)
        return
    if not listed.sessions:
        out.print("no sessions; start one with: dspex run PIPELINE.yaml")
        return
    table = Table("session", "pipeline", "status", "accepted", "took", box=None, pad_edge=False)
    for session in listed.sessions:
        accepted = datetime.fromtimestamp(session.accepted_ms / 1000).strftime("%Y-%m-%d %H:%M:%S")
        took = milliseconds((session.ended_ms - session.accepted_ms) * 1000) if session.ended_ms else ""
        status = f"[{_STYLES[session.status]}]{session.status}[/]"
        table.add_row(session.session, session.pipeline, status, accepted, took)
    out.print(table)
    if listed.next:
        flag = " --live" if only_live else ""
        click.echo(f"older ones: dspex sessions{flag} --limit {limit} --before {listed.next}", err=True)
