"""``watch``: a session's steps as they go."""

from __future__ import annotations

import sys

import click

from .connecting import connect
from .drawing import tree
from .shell import asynchronous, json_option, live, out, print_json, server_option
from .watching import conclude, follow


@click.command(short_help="Watch a session, live or after its end.")
@click.argument("session")
@click.option("--after", type=click.IntRange(0), default=0, help="With --json: only events with a greater sequence.")
@click.option("--tokens", is_flag=True, help="Also what models write, as it comes, of steps that were asked to stream.")
@server_option
@json_option
@asynchronous
async def watch(session: str, after: int, tokens: bool, server: str | None, as_json: bool) -> None:
    """Show SESSION's steps as they go, from its first event to its last, and its output. With --json, one event a
    line: to go on after a break, give the last "sequence" seen to --after."""
    if after and not as_json:
        raise click.UsageError("--after needs --json")
    async with connect(server, name="dspex-watch") as client:
        handle = client.session(session)
        await handle.view()  # an unknown session is an error at once, not a wait
        if as_json:
            async for item in handle.follow(after=after, tokens=tokens):
                print_json(item)
                sys.stdout.flush()
            return
        progression = await follow(client, handle, tokens=tokens)
        if not live():
            out.print(tree(progression))
        conclude(await handle.result(timeout_s=30))
