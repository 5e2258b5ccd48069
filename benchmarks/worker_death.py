"""How soon a killed worker's task runs elsewhere: kill -9 in the middle of a task, until another worker has begun it.

One server, one supervisor with two workers in processes of their own. The task says when it begins, and does nothing.

    python benchmarks/worker_death.py [--quick] [--json FILE]
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
from handlers import BEGAN
from timing import arguments, report, run_loop

from dspex_bus import EmbeddedServer, Message, NatsBus, subjects
from dspex_bus.streams import buckets, streams
from dspex_bus.wire import Task, WorkerPresence, decode, encode
from dspex_services.supervisor import PoolSpec, Supervisor

POOL = "bench"
WORKERS = 2
LONGEST_S = 30.0
NOTES = {
    "kill_to_redelivery_ms_p50": "target 100 or less",
    "kill_to_redelivery_ms_worst": "the slowest of them",
    "kills": "workers killed in the middle of a task",
}


class Watch:
    """Who is there, and who has begun the task."""

    def __init__(self) -> None:
        self._ready: dict[int, float] = {}
        self._began: asyncio.Queue[tuple[float, int, Message]] = asyncio.Queue()

    async def on_presence(self, message: Message) -> None:
        said = decode(WorkerPresence, message.data, subject=message.subject)
        if said.state == "ready":
            self._ready[said.pid] = time.monotonic()

    async def on_began(self, message: Message) -> None:
        self._began.put_nowait((time.perf_counter(), int(message.data), message))

    def forget(self, pid: int) -> None:
        self._ready.pop(pid, None)

    async def all_there(self) -> None:
        async with asyncio.timeout(LONGEST_S):
            while sum(seen > time.monotonic() - 2 for seen in self._ready.values()) < WORKERS:
                await asyncio.sleep(0.05)

    async def next_begin(self) -> tuple[float, int, Message]:
        """When, by which process, and what to answer so that the task ends."""
        async with asyncio.timeout(LONGEST_S):
            return await self._began.get()


async def measure(kills: int) -> dict[str, float]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedServer())
        bus = await stack.enter_async_context(NatsBus(server.url, name="bench"))
        await bus.prepare(streams(), buckets())
        watch = Watch()
        await bus.subscribe(subjects.pool_presence(POOL), watch.on_presence)
        await bus.subscribe(BEGAN, watch.on_began)
        spec = PoolSpec(pool=POOL, handlers=("handlers:handlers",), size=WORKERS, path=(str(Path(__file__).parent),))
        group = await stack.enter_async_context(anyio.create_task_group())
        await group.start(Supervisor(server.url, [spec]).run)
        taken = [await _kill(bus, watch, number) for number in range(kills)]
        group.cancel_scope.cancel()
    return {
        "kill_to_redelivery_ms_p50": 1000 * statistics.median(taken),
        "kill_to_redelivery_ms_worst": 1000 * max(taken),
        "kills": kills,
    }


async def _kill(bus: NatsBus, watch: Watch, number: int) -> float:
    """Seconds from the kill to the task's next beginning."""
    await watch.all_there()
    task = Task(
        session=f"s{number}",
        node="0",
        attempt=1,
        partition=0,
        handler="bench.hold",
        timeout_ms=60_000,
        deadline_ms=int(time.time() * 1000) + 60_000,
    )
    subject = subjects.task(POOL, subjects.DEFAULT_LANE, task.session, task.node, task.attempt)
    await bus.store_and_wait(subject, encode(task), once=True)
    _, first, _ = await watch.next_begin()
    await asyncio.sleep(0.2)  # in the middle of it
    killed_at = time.perf_counter()
    os.kill(first, signal.SIGKILL)
    watch.forget(first)
    began_at, second, message = await watch.next_begin()
    assert second != first
    await bus.publish(message.reply)
    return began_at - killed_at


def main() -> None:
    options = arguments(__doc__ or "")
    report(run_loop(measure(5 if options.quick else 20)), options.json, NOTES)


if __name__ == "__main__":
    main()
