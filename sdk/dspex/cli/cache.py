"""``cache``: what the cache holds and saves, and emptying it."""

from __future__ import annotations

from typing import Any

import click
from rich.table import Table

from dspex_bus.streams import CACHE
from dspex_services.cache.asking import clear, reports, stored

from .connecting import connect_bus
from .shell import asynchronous, json_option, out, print_json, server_option

_KINDS = {"lm": "replies of models", "step": "outputs of steps", "value": "kept by the cache handler"}


@click.group(short_help="What the cache holds, and emptying it.")
def cache() -> None:
    """The cache that all workers share: replies of models, outputs of steps, values kept by a pipeline."""


@cache.command(short_help="What it holds and what it saved.")
@click.option("--wait", "wait_s", default=0.5, show_default=True, help="Seconds to wait for workers' answers.")
@server_option
@json_option
@asynchronous
async def stats(wait_s: float, server: str | None, as_json: bool) -> None:
    """Entries on the bus by kind, and each worker's look-ups since it started."""
    async with connect_bus(server, name="dspex-cache") as bus:
        held = await stored(bus)
        size = (await bus.stream_info(f"KV_{CACHE}"))["bytes"]
        workers = await reports(bus, wait_s=wait_s)
    if as_json:
        print_json({"stored": held, "bytes": size, "workers": workers})
        return
    on_bus = Table("on the bus", "entries", "", box=None, pad_edge=False)
    for kind, count in held.items():
        on_bus.add_row(kind, str(count), _KINDS[kind])
    on_bus.add_row("bytes", str(size), "", style="bold")
    out.print(on_bus)
    out.print()
    if not workers:
        out.print("no worker answered")
        return
    columns = ("entries", "bytes", "memory_hits", "shared_hits", "joined", "renewed", "misses")
    table = Table("worker", *(name.replace("_", " ") for name in columns), box=None, pad_edge=False)
    for worker in workers:
        table.add_row(worker.worker, *(str(getattr(worker, name)) for name in columns))
    out.print(table)


@cache.command("clear", short_help="Empty it.")
@click.option("--kind", type=click.Choice(list(_KINDS)), help="Only entries of this kind.")
@server_option
@json_option
@asynchronous
async def clear_(kind: Any, server: str | None, as_json: bool) -> None:
    """Forget what is kept, on the bus and in every worker's memory."""
    async with connect_bus(server, name="dspex-cache") as bus:
        count = await clear(bus, kind or "")
    if as_json:
        print_json({"cleared": count})
    else:
        out.print(f"{count} entries cleared")
