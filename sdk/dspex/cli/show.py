"""``sessions`` and ``pools``: what there is."""

from __future__ import annotations

from datetime import datetime

import click
from rich.table import Table

from ..client import connect
from .drawing import milliseconds
from .shell import asynchronous, count, json_option, out, print_json, server_option

_STYLES = {"running": "cyan", "succeeded": "green", "failed": "red", "timed_out": "red", "cancelled": "yellow"}


@click.command(short_help="List sessions.")
@click.option("--live", "only_live", is_flag=True, help="Only those that have not ended.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@server_option
@json_option
@asynchronous
async def sessions(only_live: bool, limit: int, server: str | None, as_json: bool) -> None:
    """Sessions, newest first: those that run and those kept after their end."""
    async with connect(server, name="dspex-sessions") as client:
        listed = await client.sessions(ended=not only_live, limit=limit)
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


@click.command(short_help="Show pools and their workers.")
@server_option
@json_option
@asynchronous
async def pools(server: str | None, as_json: bool) -> None:
    """Every pool's workers, slots in use, and queue."""
    async with connect(server, name="dspex-pools") as client:
        listed = await client.pools()
    if as_json:
        print_json(listed)
        return
    if not listed.pools:
        out.print("no pools; start some with: dspex up, or: dspex pool native")
        return
    table = Table("pool", "worker", "busy", "done", "memory", "queued", "running", "model", box=None, pad_edge=False)
    for pool in listed.pools:
        busy, queued, running = f"{pool.busy}/{pool.slots}", str(pool.queued), str(pool.running)
        table.add_row(pool.pool, count(len(pool.workers), "worker"), busy, "", "", queued, running, "", style="bold")
        for worker in pool.workers:
            memory = f"{worker.memory_bytes / 2**20:.0f} MiB" if worker.memory_bytes else ""
            busy = f"{worker.busy}/{worker.slots}"
            table.add_row("", worker.worker, busy, str(worker.done), memory, "", "", worker.model)
    out.print(table)
