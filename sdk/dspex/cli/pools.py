"""``pools``: who works, how busy they are, and what waits."""

from __future__ import annotations

import anyio
import click
from rich.console import RenderableType
from rich.live import Live
from rich.table import Table

from dspex_bus.errors import Unavailable
from dspex_bus.wire import PoolList, PoolStatus, WorkerPresence

from ..client import Client
from .connecting import connect
from .drawing import milliseconds
from .shell import asynchronous, count, json_option, live, out, print_json, server_option

_EVERY_S = 1.0
_COLUMNS = ("pool", "worker", "busy", "done", "memory", "queued", "oldest", "running", "again", "late", "model")


@click.command(short_help="Show pools and their workers.")
@click.option("--watch", is_flag=True, help="Go on showing them, every second, until Ctrl-C; with --json a line each.")
@server_option
@json_option
@asynchronous
async def pools(watch: bool, server: str | None, as_json: bool) -> None:
    """Every pool's workers, slots in use, and queue.

    \b
      busy     slots in use, of how many
      done     steps a worker has run since its start
      queued   tasks and calls for which no worker has a slot yet; oldest: how long a task has waited
      running  tasks that a worker has taken
      again    tasks a worker took over because another had not finished them
      late     outcomes that came after another had been recorded; they changed nothing
    """
    async with connect(server, name="dspex-pools") as client:
        if watch and not as_json and live():
            with Live(_table(await client.pools()), console=out, auto_refresh=False) as drawing:
                while True:
                    await anyio.sleep(_EVERY_S)
                    drawing.update(await _now(client), refresh=True)
        while True:
            listed = await client.pools()
            if as_json:
                print_json(listed)
            else:
                out.print(_table(listed))
            if not watch:
                return
            await anyio.sleep(_EVERY_S)


async def _now(client: Client) -> RenderableType:
    """A router or server that is restarted ends nobody's watch."""
    try:
        return _table(await client.pools())
    except Unavailable as error:
        return f"[yellow]{error.message}[/]"


def _table(listed: PoolList) -> RenderableType:
    if not listed.pools:
        return "no pools; start some with: dspex up, or: dspex pool native"
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for pool in listed.pools:
        table.add_row(*_pool(pool), style="bold")
        for worker in pool.workers:
            table.add_row(*_worker(worker))
    return table


def _pool(pool: PoolStatus) -> tuple[str, ...]:
    return (
        pool.pool,
        count(len(pool.workers), "worker"),
        f"{pool.busy}/{pool.slots}",
        "",
        _mib(sum(worker.memory_bytes for worker in pool.workers)),
        str(pool.queued + sum(worker.waiting for worker in pool.workers)),
        milliseconds(pool.oldest_wait_ms * 1000) if pool.queued else "",
        str(pool.running),
        str(sum(worker.redelivered for worker in pool.workers)),
        str(sum(worker.late for worker in pool.workers)),
        "",
    )


def _worker(worker: WorkerPresence) -> tuple[str, ...]:
    again, late = str(worker.redelivered or ""), str(worker.late or "")
    name = worker.worker if worker.state == "ready" else f"{worker.worker} ({worker.state})"
    busy = f"{worker.busy}/{worker.slots}"
    return ("", name, busy, str(worker.done), _mib(worker.memory_bytes), "", "", "", again, late, worker.model)


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB" if size else ""
