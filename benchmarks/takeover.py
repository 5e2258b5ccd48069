"""How soon another router has all that a router owned: after kill -9, after an orderly stop, and after one has come.

One server, two routers in processes of their own, and sessions that wait for a signal. A partition counts as taken over
when its new owner has read the journals of all its sessions, and says so.

    python benchmarks/takeover.py [--quick] [--sessions N] [--json FILE]
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial

from timing import arguments, report, run_loop

import dspex
from dspex_bus import EmbeddedServer, Message, NatsBus, subjects
from dspex_bus.streams import DEFAULT_PARTITIONS
from dspex_bus.wire import RouterPresence, decode

ALL, HALF = DEFAULT_PARTITIONS, DEFAULT_PARTITIONS // 2
LONGEST_S = 60.0
WAITING = dspex.pipeline([dspex.wait("go")])
NOTES = {
    "killed_ms_p50": "target 2,000 or less",
    "killed_ms_worst": "the slowest of them",
    "stopped_ms_p50": "target 100 or less",
    "stopped_ms_worst": "the slowest of them",
    "joined_ms_p50": "from a newcomer's first word to equal shares",
    "sessions": "that wait, half of them with each router",
    "rounds": "of each",
}


class Routers:
    """What each says that it owns."""

    def __init__(self) -> None:
        self._said: dict[int, tuple[int, ...]] = {}
        self._first: dict[int, float] = {}
        self._changed = asyncio.Event()

    async def on_presence(self, message: Message) -> None:
        said = decode(RouterPresence, message.data, subject=message.subject)
        self._first.setdefault(said.pid, time.perf_counter())
        self._said[said.pid] = said.partitions
        self._changed.set()
        self._changed = asyncio.Event()

    def own(self, shares: Mapping[int, int]) -> bool:
        """Each process so many partitions."""
        return all(len(self._said.get(pid, ())) == share for pid, share in shares.items())

    def first_word(self, pid: int) -> float:
        return self._first[pid]

    async def until(self, holds: Callable[[], bool]) -> float:
        """When it first held."""
        async with asyncio.timeout(LONGEST_S):
            while not holds():
                await self._changed.wait()
        return time.perf_counter()


async def started(stack: AsyncExitStack, url: str) -> asyncio.subprocess.Process:
    """A router, ready."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dspex", "router", "--server", url),
        stdout=asyncio.subprocess.PIPE,
    )
    stack.push_async_callback(_gone, process)
    assert process.stdout is not None
    async with asyncio.timeout(LONGEST_S):
        line = await process.stdout.readline()
    assert b"ready" in line, line
    return process


async def _gone(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def measure(rounds: int, sessions: int) -> dict[str, float]:
    taken: dict[signal.Signals, list[float]] = {signal.SIGKILL: [], signal.SIGTERM: []}
    joined: list[float] = []
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedServer())
        bus = await stack.enter_async_context(NatsBus(server.url, name="bench"))
        routers = Routers()
        await bus.subscribe(subjects.ROUTERS, routers.on_presence)
        staying = await started(stack, server.url)
        alone = partial(routers.own, {staying.pid: ALL})
        await routers.until(alone)
        async with dspex.connect(server.url) as client:
            for _ in range(sessions):
                await client.submit(WAITING)
        for _ in range(rounds):
            for how, found in taken.items():
                leaving = await started(stack, server.url)
                shared = await routers.until(partial(routers.own, {staying.pid: HALF, leaving.pid: HALF}))
                joined.append(shared - routers.first_word(leaving.pid))
                at = time.perf_counter()
                leaving.send_signal(how)
                found.append(await routers.until(alone) - at)
                await leaving.wait()
    killed, stopped = taken[signal.SIGKILL], taken[signal.SIGTERM]
    return {
        "killed_ms_p50": 1000 * statistics.median(killed),
        "killed_ms_worst": 1000 * max(killed),
        "stopped_ms_p50": 1000 * statistics.median(stopped),
        "stopped_ms_worst": 1000 * max(stopped),
        "joined_ms_p50": 1000 * statistics.median(joined),
        "sessions": sessions,
        "rounds": rounds,
    }


def main() -> None:
    options = arguments(__doc__ or "", more=[("--sessions", {"type": int, "default": 1_000})])
    report(run_loop(measure(3 if options.quick else 10, options.sessions)), options.json, NOTES)


if __name__ == "__main__":
    main()
