"""What large values cost: a run of one step that gives back what it is given, from 1 KB to 48 MB, until its result.

Above 512 KiB the request, the start, the task, the outcome, the end and the reply are each an object of the object
store. ``store`` is one such object written and read by itself.

    python benchmarks/large.py [--quick] [--json FILE]
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from steps import process
from timing import arguments, report, run_loop, seconds_each

import dspex
from dspex_bus import EmbeddedServer
from dspex_bus.streams import OBJECTS

SIZES = {"1_kb": 1_000, "400_kb": 400_000, "1_mb": 1_000_000}
SIZES |= {"3_mb": 3_000_000, "16_mb": 16_000_000, "48_mb": 48_000_000}
PIPELINE = dspex.pipeline([dspex.native("bench.noop", pool="bench")])
NOTES = {"run_1_kb_ms": "in messages alone", "run_1_mb_ms": "six objects"}


async def measure(quick: bool) -> dict[str, float]:
    rounds = 3 if quick else 15
    figures: dict[str, float] = {}
    async with (
        EmbeddedServer() as server,
        process(sys.executable, "-m", "dspex", "router", "--server", server.url),
        process(sys.executable, "-m", "dspex", "serve", "handlers:handlers", "--pool", "bench", "--server", server.url),
        dspex.connect(server.url) as client,
    ):
        objects = client.bus.objects(OBJECTS)
        for name, size in SIZES.items():
            text = os.urandom(size // 2).hex()

            async def run(text: str = text) -> None:
                result = await client.run(PIPELINE, {"text": text, "count": 0}, timeout_s=60)
                assert result.output == {"text": text, "count": 1}

            async def store(data: bytes = text.encode()) -> None:
                await objects.put("benchmark", data)
                assert await objects.get("benchmark") == data

            figures[f"run_{name}_ms"] = await _median_ms(rounds, run)
            figures[f"store_{name}_ms"] = await _median_ms(rounds, store)
    return figures


async def _median_ms(rounds: int, work: Callable[[], Awaitable[Any]]) -> float:
    await work()
    return statistics.median(await seconds_each(rounds, work)) * 1e3


def main() -> None:
    options = arguments(__doc__ or "")
    report(run_loop(measure(options.quick)), options.json, NOTES)


if __name__ == "__main__":
    main()
