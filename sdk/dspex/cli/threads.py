"""``threads``: conversations, kept from run to run."""

from __future__ import annotations

from datetime import datetime

import click
import msgspec
from rich.markup import escape
from rich.table import Table

from .connecting import connect
from .shell import asynchronous, json_option, out, print_json, server_option

_tenant = click.option("--tenant", default="", metavar="NAME", help="Whose thread it is.")
_session = click.option("--session", "of_session", is_flag=True, help="NAME is a session, the thread its own.")


@click.group(short_help="Conversations, kept from run to run.")
def threads() -> None:
    """Conversations that steps with 'remember' go on with: of a run's --thread, or of a session alone."""


@threads.command("list", short_help="Which there are.")
@click.option("--tenant", metavar="NAME", help="Only this tenant's.")
@click.option("--sessions", is_flag=True, help="Also those of sessions without a thread.")
@server_option
@json_option
@asynchronous
async def list_(tenant: str | None, sessions: bool, server: str | None, as_json: bool) -> None:
    """Threads, the last changed first."""
    async with connect(server, name="dspex-threads") as client:
        found = await client.threads.list(tenant=tenant, sessions=sessions)
    if as_json:
        print_json(found)
        return
    table = Table("thread", "tenant", "turns", "changed", box=None, pad_edge=False)
    for thread in found:
        name = f"session {thread.name}" if thread.of_session else thread.name
        table.add_row(escape(name), escape(thread.tenant), str(thread.turns), _moment(thread.changed_ms))
    out.print(table if found else "there are no threads")


@threads.command(short_help="Its turns.")
@click.argument("name")
@_tenant
@_session
@server_option
@json_option
@asynchronous
async def show(name: str, tenant: str, of_session: bool, server: str | None, as_json: bool) -> None:
    """Every turn of the thread NAME, the oldest first: a step's inputs and outputs."""
    async with connect(server, name="dspex-threads") as client:
        thread = await client.threads.get(name, tenant=tenant, of_session=of_session)
    if as_json:
        print_json(thread)
        return
    if thread.forgotten:
        out.print(f"[dim]{thread.forgotten} older turns had to make room[/]")
    for turn in thread.turns:
        out.print(f"[dim]{_moment(turn.time_ms)}  session {escape(turn.session)}  step {escape(turn.node)}[/]")
        for field, value in turn.fields.items():
            text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            out.print(f"  [bold]{escape(field)}[/]  {escape(text)}", soft_wrap=True)


@threads.command(short_help="Forget it.")
@click.argument("name")
@_tenant
@_session
@server_option
@json_option
@asynchronous
async def clear(name: str, tenant: str, of_session: bool, server: str | None, as_json: bool) -> None:
    """Forget every turn of the thread NAME."""
    async with connect(server, name="dspex-threads") as client:
        turns = await client.threads.clear(name, tenant=tenant, of_session=of_session)
    if as_json:
        print_json({"thread": name, "turns": turns})
    else:
        out.print(f"{turns} turns forgotten")


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000).strftime("%Y-%m-%d %H:%M:%S")
