"""What a cached predict costs in process, and what calls leave behind in memory: the native pool's own ``predict``,
as a worker calls it, without a bus.

    python benchmarks/cached_path.py [--quick] [--json FILE] [--calls 1000000]
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from collections.abc import AsyncIterator

import predict_path
from timing import arguments, report, run_loop, seconds_in_flight

from dspex_bus import MemoryBus
from dspex_bus.streams import buckets
from dspex_services.cache import Cache
from dspex_services.native.models import Models
from dspex_services.native.predicting import PredictOptions, predict

CACHE_BYTES = 256 * 1024
FULL = 8000
"""Calls that fill every cache; what is in them is not left behind."""
SIGNATURES = 1500
"""More than any of the caches of signatures holds."""
NOTES = {
    "predict_cached_us": "CPU of a native predict whose reply is in the process's memory; target 30 or less",
    "predict_cached_us_dspy": "dspy.Predict, its memory cache",
    "memory_calls": "native predicts over HTTP, every eighth one cached, no two alike",
    "memory_objects_a_call": "Python's memory blocks that each leaves behind once every cache is full; target 0",
    "memory_growth_mib": "resident memory, over all of them",
}


@contextlib.asynccontextmanager
async def _worker(base_url: str, memory_bytes: int) -> AsyncIterator[tuple[Models, Cache]]:
    models = Models({"DSPEX_MODEL": "openai/canned", "DSPEX_BASE_URL": base_url})
    async with MemoryBus() as bus:
        await bus.prepare([], buckets())
        # What is in the memory of this benchmark as a bus would be in the server's.
        async with Cache(bus, memory_bytes=memory_bytes, largest_shared=0) as cache:
            yield models, cache
    await models.close()


def measure(quick: bool, calls: int = 0) -> dict[str, float]:
    """``calls`` 0: as many as show a leak of some hundred bytes a call."""
    with predict_path.environment(), predict_path.responder() as base_url:
        figures = run_loop(_cached(base_url, quick))
        figures |= _cached_by_dspy(base_url, quick)
        return figures | run_loop(_memory(base_url, calls or (20_000 if quick else 100_000)))


async def _cached(base_url: str, quick: bool) -> dict[str, float]:
    """The best of some rounds, for what else runs only ever adds."""
    rounds, calls = (5, 1000) if quick else (20, 5000)
    options = PredictOptions(signature=predict_path.SIGNATURE, cache=3600.0)
    async with _worker(base_url, 256 * CACHE_BYTES) as (models, cache):
        predict_path.check(await predict(models, options, predict_path.step_for(predict_path.INPUTS, cache)))
        step = predict_path.step_for(predict_path.INPUTS, cache)
        best = float("inf")
        for _ in range(rounds):
            start = time.process_time()
            for _ in range(calls):
                await predict(models, options, step)
            best = min(best, (time.process_time() - start) / calls)
        assert step.usage is not None
        assert (step.usage.calls, step.usage.saved_calls) == (0, rounds * calls)
    return {"predict_cached_us": best * 1e6}


def _cached_by_dspy(base_url: str, quick: bool) -> dict[str, float]:
    import dspy

    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    lm = dspy.LM("openai/canned", api_base=base_url, api_key="none", cache=True)
    calls = 50 if quick else 300
    best = float("inf")
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter(), disable_history=True, trace=[]):
        asking = dspy.Predict(predict_path.SIGNATURE)
        predict_path.check(asking(**predict_path.INPUTS))
        for _ in range(5):
            start = time.process_time()
            for _ in range(calls):
                asking(**predict_path.INPUTS)
            best = min(best, (time.process_time() - start) / calls)
    return {"predict_cached_us_dspy": best * 1e6}


async def _memory(base_url: str, calls: int) -> dict[str, float]:
    number = 0
    async with _worker(base_url, CACHE_BYTES) as (models, cache):

        async def one() -> None:
            nonlocal number
            number += 1
            signature = f"context: list[str], question -> answer, confidence: float 'of {number % SIGNATURES}'"
            options = PredictOptions(signature=signature, cache=60.0 if number % 8 == 0 else False)
            inputs = {**predict_path.INPUTS, "question": f"question {number}?"}
            predict_path.check(await predict(models, options, predict_path.step_for(inputs, cache)))

        await seconds_in_flight(FULL, predict_path.IN_FLIGHT, one)
        resident, blocks = _resident(), sys.getallocatedblocks()
        for begun in range(0, calls, FULL):  # no more tasks at once than before: they would be the growth
            await seconds_in_flight(min(FULL, calls - begun), predict_path.IN_FLIGHT, one)
        grown = (_resident() - resident) / 2**20
        left = (sys.getallocatedblocks() - blocks) / calls
    return {"memory_calls": calls, "memory_objects_a_call": left, "memory_growth_mib": grown}


def _resident() -> int:
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    options = arguments(__doc__ or "", calls=True)
    report(measure(options.quick, options.calls), options.json, NOTES)


if __name__ == "__main__":
    main()
