"""Ten times more runs than a pool can do, for a minute: what is turned away, what becomes of what is accepted, and the
router's memory meanwhile.

One server, one router that lets 500 steps wait, one worker of 8 slots whose step takes 80 ms: a hundred runs a second.
A thousand are asked for. Every one accepted must end.

    python benchmarks/overload.py [--quick] [--json FILE]
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from timing import arguments, report, run_loop

import dspex
from dspex_bus import EmbeddedServer, Message, subjects
from dspex_bus.errors import DspexError

HERE = Path(__file__).parent
SLOTS, STEP_S, QUEUE = 8, 0.08, 500
CAPACITY = SLOTS / STEP_S
TIMES = 10
NOTES = {
    "asked_per_s": f"runs asked for; the pool can do {CAPACITY:g} a second",
    "accepted": "runs accepted",
    "refused": "runs answered 'overloaded'",
    "unended": "accepted runs that never ended: must be 0",
    "failed": "of each twentieth accepted run, how many did not succeed: must be 0",
    "refused_ms_p99": "time to be turned away",
    "latency_s_p99": "from accepted to ended",
    "latency_over_queue": f"the median of that over what {QUEUE} waiting steps take",
    "router_mb_early": "the router's memory after a quarter of the time",
    "router_mb_late": "and at the end",
}


@contextlib.asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dspex", *arguments, cwd=HERE, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        async with asyncio.timeout(30):
            await child.stdout.readline()
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        await child.wait()


class Flood:
    def __init__(self, client: dspex.Client) -> None:
        self._client = client
        self.accepted: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self.refused_s: list[float] = []

    async def on_end(self, message: Message) -> None:
        self.ended[message.subject.split(".")[4]] = time.perf_counter()

    async def one(self) -> None:
        began = time.perf_counter()
        try:
            session = await self._client.submit("slow", timeout_s=600)
        except DspexError as error:
            if error.code != "overloaded":
                raise
            self.refused_s.append(time.perf_counter() - began)
        else:
            self.accepted[session.id] = time.perf_counter()

    async def pour(self, per_s: float, seconds: float) -> None:
        """So many a second, whatever becomes of them."""
        began, number = time.perf_counter(), 0
        async with asyncio.TaskGroup() as group:
            while (now := time.perf_counter() - began) < seconds:
                while number < now * per_s:
                    group.create_task(self.one())
                    number += 1
                await asyncio.sleep(0.005)

    async def settle(self, within_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while len(self.ended) < len(self.accepted):
                    await asyncio.sleep(0.1)


async def measure(quick: bool) -> dict[str, float]:
    seconds = 15.0 if quick else 60.0
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedServer())
        to = ("--server", server.url)
        router = await stack.enter_async_context(process("router", "--pool-queue", str(QUEUE), *to))
        await stack.enter_async_context(
            process("serve", "handlers:handlers", "--pool", "bench", "--slots", str(SLOTS), *to)
        )
        client = await stack.enter_async_context(dspex.connect(server.url))
        await client.put_pipeline(dspex.pipeline([dspex.native("bench.slow", seconds=STEP_S)], name="slow"))
        flood = Flood(client)
        await client.bus.subscribe(f"{subjects.EVENT}.*.*.end", flood.on_end)
        quarter = asyncio.create_task(_after(seconds / 4, router.pid))
        await flood.pour(TIMES * CAPACITY, seconds)
        late_mb = _mb(router.pid)
        await flood.settle(4 * QUEUE / CAPACITY + 30)
        asked = len(flood.accepted) + len(flood.refused_s)
        results = [await client.session(session).result() for session in list(flood.accepted)[::20]]
        latencies = [flood.ended[id] - at for id, at in flood.accepted.items() if id in flood.ended]
        return {
            "asked_per_s": asked / seconds,
            "accepted": len(flood.accepted),
            "refused": len(flood.refused_s),
            "unended": len(flood.accepted) - len(latencies),
            "failed": sum(result.status != "succeeded" for result in results),
            "refused_ms_p99": statistics.quantiles(flood.refused_s, n=100)[98] * 1000,
            "latency_s_p50": statistics.median(latencies),
            "latency_s_p99": statistics.quantiles(latencies, n=100)[98],
            "latency_over_queue": statistics.median(latencies) / (QUEUE / CAPACITY),
            "router_mb_early": await quarter,
            "router_mb_late": late_mb,
        }


async def _after(seconds: float, pid: int) -> float:
    await asyncio.sleep(seconds)
    return _mb(pid)


def _mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def main() -> None:
    options = arguments(__doc__ or "")
    report(run_loop(measure(options.quick)), options.json, NOTES)


if __name__ == "__main__":
    main()
