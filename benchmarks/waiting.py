"""What sessions that wait cost: a router's memory, with and without parking, and time until the next router has them.

One server, one router in a process of its own, and sessions that wait for a signal. The router is killed when all of
them wait (or are parked), and another is started: how much longer that takes than on a server without sessions is the
recovery's time.

    python benchmarks/waiting.py [--quick] [--sessions N …] [--json FILE]
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from timing import arguments, cpu_by_process, milliseconds, report, run_loop, seconds_in_flight

import dspex
from dspex_bus import EmbeddedServer, NatsBus
from dspex_bus.streams import PARKED

LONGEST_S = 1800.0
IN_FLIGHT = 64
STARTS = 3
SIGNALLED = 20
IDLE_S = 5.0
WAITING = dspex.pipeline([dspex.wait("go")])
NOTES = {
    "empty_start_s": "a router from its process's start to ready, without sessions",
}
NOTED = {
    "submit_per_s": "sessions submitted a second",
    "live_rss_kb_each": "of the router, none parked",
    "live_recovery_s": "a router is killed, the next is ready: longer than with no sessions",
    "parked_rss_kb_each": "of the router that parked them",
    "parked_rss_kb_each_anew": "of the one after it",
    "parked_recovery_s": "as above, all of them parked",
    "park_s": "until the last is parked, from the last submit",
    "park_cpu_ms_each": "of the router, from submit to parked",
    "idle_cpu_percent": "of the router after a take-over, with all of them parked",
    "wake_ms_p50": "from a signal to the session's result",
    "live_ms_p50": "the same of sessions in memory",
    "list_ms": "the newest hundred sessions, all of them parked",
}


class Router:
    """A process, ready."""

    def __init__(self, process: asyncio.subprocess.Process, took_s: float) -> None:
        self._process = process
        self.took_s = took_s

    @property
    def rss_kb(self) -> float:
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1024


@asynccontextmanager
async def router(url: str, park_after_s: float) -> AsyncIterator[Router]:
    """Killed at the end, as by a crash."""
    at = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dspex", "router", "--server", url, "--park-after", str(park_after_s)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(LONGEST_S):
            line = await process.stdout.readline()
        assert b"ready" in line, line
        yield Router(process, time.perf_counter() - at)
    finally:
        process.kill()
        await process.wait()


async def started_s(url: str, park_after_s: float) -> float:
    """The quickest of a few."""
    taken = []
    for _ in range(STARTS):
        async with router(url, park_after_s) as found:
            taken.append(found.took_s)
    return min(taken)


async def submitted(client: dspex.Client, count: int) -> tuple[list[dspex.Session], float]:
    sessions: list[dspex.Session] = []

    async def one() -> None:
        sessions.append(await client.submit(WAITING, {"question": "May it?"}, timeout_s=7 * 86_400))

    return sessions, await seconds_in_flight(count, IN_FLIGHT, one)


async def parked(bus: NatsBus, count: int) -> None:
    async with asyncio.timeout(LONGEST_S):
        while (await bus.stream_info(f"KV_{PARKED}"))["messages"] < count:
            await asyncio.sleep(0.05)


async def answered_ms(sessions: list[dspex.Session]) -> float:
    taken = []
    for session in sessions[:SIGNALLED]:
        at = time.perf_counter()
        await session.signal("go", {"said": "yes"})
        await session.result(timeout_s=60)
        taken.append(time.perf_counter() - at)
    return milliseconds(taken)


async def without(count: int, empty_s: float) -> dict[str, float]:
    async with EmbeddedServer() as server, dspex.connect(server.url) as client:
        async with router(server.url, 0) as first:
            await submitted(client, 20)
            before_kb = first.rss_kb
            sessions, took_s = await submitted(client, count)
            live_kb = first.rss_kb - before_kb
            live_ms = await answered_ms(sessions)
        return {
            "submit_per_s": count / took_s,
            "live_rss_kb_each": live_kb / count,
            "live_recovery_s": await started_s(server.url, 0) - empty_s,
            "live_ms_p50": live_ms,
        }


async def within(count: int, empty_s: float) -> dict[str, float]:
    """The same, parked as soon as they wait."""
    figures: dict[str, float] = {}
    async with (
        EmbeddedServer() as server,
        NatsBus(server.url, name="bench") as bus,
        dspex.connect(server.url) as client,
    ):
        async with router(server.url, 1) as first:
            few, _ = await submitted(client, 20)
            before_kb, before_s = first.rss_kb, cpu_by_process()["router"]
            sessions, _ = await submitted(client, count)
            at = time.perf_counter()
            await parked(bus, count + len(few))
            figures["park_s"] = time.perf_counter() - at
            figures["park_cpu_ms_each"] = 1000 * (cpu_by_process()["router"] - before_s) / count
            figures["parked_rss_kb_each"] = (first.rss_kb - before_kb) / count
            await asyncio.sleep(IDLE_S)
        figures["parked_recovery_s"] = await started_s(server.url, 1) - empty_s
        async with EmbeddedServer() as other, router(other.url, 1) as empty:
            empty_kb = empty.rss_kb
        async with router(server.url, 1) as second:
            await asyncio.sleep(IDLE_S)
            figures["parked_rss_kb_each_anew"] = (second.rss_kb - empty_kb) / count
            before_s = cpu_by_process()["router"]
            await asyncio.sleep(IDLE_S)
            figures["idle_cpu_percent"] = 100 * (cpu_by_process()["router"] - before_s) / IDLE_S
            figures["wake_ms_p50"] = await answered_ms(sessions)
            at = time.perf_counter()
            await client.sessions(ended=False, limit=100)
            figures["list_ms"] = 1000 * (time.perf_counter() - at)
    return figures


async def measure(counts: list[int]) -> dict[str, float]:
    async with EmbeddedServer() as server:
        empty_s = await started_s(server.url, 0)
    figures = {"empty_start_s": empty_s}
    for count in counts:
        found = {**await without(count, empty_s), **await within(count, empty_s)}
        for name, note in NOTED.items():
            figures[f"{name}_{count}"] = found[name]
            NOTES[f"{name}_{count}"] = note
    return figures


def main() -> None:
    more = [("--sessions", {"type": int, "nargs": "+", "default": [2_000, 10_000]})]
    options = arguments(__doc__ or "", more=more)
    report(run_loop(measure([500] if options.quick else options.sessions)), options.json, NOTES)


if __name__ == "__main__":
    main()
