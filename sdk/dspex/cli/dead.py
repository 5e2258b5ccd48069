"""``dead``: messages that nobody could do anything with."""

from __future__ import annotations

from datetime import datetime

import click
from rich.table import Table

from .connecting import connect
from .shell import asynchronous, json_option, out, print_json, server_option


@click.group(short_help="Look at dead letters, retry or drop them.")
def dead() -> None:
    """Dead letters: messages that nobody could do anything with, kept with the reason and as they were. A task becomes
    one when it was delivered three times and no worker lived to tell its outcome, or when it cannot be read."""


@dead.command("list", short_help="List dead letters.")
@click.option("--pool", metavar="NAME", help="Only of this pool.")
@click.option("--after", type=int, default=0, help="Only those numbered above this.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@server_option
@json_option
@asynchronous
async def list_(pool: str | None, after: int, limit: int, server: str | None, as_json: bool) -> None:
    """Dead letters, oldest first."""
    async with connect(server, name="dspex-dead") as client:
        found = await client.dead_letters(pool, after=after, limit=limit)
    if as_json:
        print_json(found)
        return
    if not found.letters:
        out.print("no dead letters")
        return
    table = Table("number", "at", "pool", "session", "step", "reason", box=None, pad_edge=False)
    for letter in found.letters:
        at = datetime.fromtimestamp(letter.time_ms / 1000).strftime("%Y-%m-%d %H:%M:%S")
        step = f"{letter.node} attempt {letter.attempt}"
        table.add_row(str(letter.sequence), at, letter.pool, letter.session, step, letter.reason.code)
    out.print(table)


@dead.command(short_help="Show one, with the original message.")
@click.argument("number", type=click.IntRange(1))
@server_option
@json_option
@asynchronous
async def show(number: int, server: str | None, as_json: bool) -> None:
    """The dead letter NUMBER: why it is one, where it was going, and the message itself."""
    async with connect(server, name="dspex-dead") as client:
        letter = await client.dead_letter(number)
    if as_json:
        print_json(letter)
        return
    out.print(f"{letter.reason.code}: {letter.reason.message}", markup=False, soft_wrap=True)
    out.print(f"to {letter.subject}, {letter.size} bytes", markup=False, soft_wrap=True)
    out.print(letter.data if letter.data is not None else "(not text)", markup=False, soft_wrap=True)


@dead.command(short_help="Have its session go on from what failed.")
@click.argument("number", type=click.IntRange(1))
@server_option
@json_option
@asynchronous
async def retry(number: int, server: str | None, as_json: bool) -> None:
    """A new session goes on from what failed, the results of the steps that succeeded kept; the letter is dropped."""
    async with connect(server, name="dspex-dead") as client:
        session = await client.retry_dead_letter(number)
    if as_json:
        print_json({"session": session.id})
    else:
        out.print(f"session {session.id} runs; watch it with: dspex watch {session.id}")


@dead.command(short_help="Forget one.")
@click.argument("number", type=click.IntRange(1))
@server_option
@asynchronous
async def drop(number: int, server: str | None) -> None:
    """Forget the dead letter NUMBER."""
    async with connect(server, name="dspex-dead") as client:
        await client.drop_dead_letter(number)
    out.print(f"dead letter {number} is dropped")
