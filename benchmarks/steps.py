"""What a step costs: no-op native steps against the floors of the same run (see floor.py).

One server, one router process (or ``--routers`` of them), one worker process. Sequential runs of ten steps; 64 runs in
flight; fan-outs of 64 and 256 with a join; all these unfused. Then fused: ten steps in one run, and runs of a hundred.
``--wide`` adds 1,024 runs in flight and a fan-out of 4,096. With ``--sync-always`` the server flushes each stored
message to disk, for the floor as for the product. ``--asyncio`` has the floors, and the client, run on asyncio's own
loop, as a program of plain nats-py does; else all are on uvloop, where that is installed. Machines are noisy: look at
the ratios.

    python benchmarks/steps.py [--quick] [--sync-always] [--routers N] [--wide] [--asyncio] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import nats
from floor import PAYLOAD, CoreFloor, JournalFloor
from timing import (
    arguments,
    cpu_by_process,
    cpu_seconds,
    milliseconds,
    report,
    run_loop,
    seconds_each,
    seconds_in_flight,
)

import dspex
from dspex_bus import EmbeddedServer
from dspex_bus.compiled import compiled

HERE = Path(__file__).parent
STEPS = 10
IN_FLIGHT = 64
MANY_IN_FLIGHT = 1024
OPTIONS = (
    ("--sync-always", {"action": "store_true", "help": "the server flushes every stored message to disk"}),
    ("--routers", {"type": int, "default": 1, "metavar": "N", "help": "router processes (default 1)"}),
    ("--asyncio", {"action": "store_true", "help": "the floors and the client without uvloop"}),
    ("--wide", {"action": "store_true", "help": "also 1,024 runs in flight, and a fan-out of 4,096"}),
)
LONG = 100
Work = Callable[[], Awaitable[Any]]
NOTES = {
    "core_floor_ms_per_step": "raw core request/reply, one in flight",
    "ephemeral_ms_per_step": "durability: none",
    "journal_floor_ms_per_step": "bare task and outcome in create-once slots, one in flight",
    "waiting_floor_ms_per_step": "the same, that waits for a run's start and end to be stored, as every router must",
    "durable_ms_per_step": "a session, one in flight",
    "durable_over_journal_floor_p50": "target 1.25 or less",
    "durable_over_waiting_floor_p50": "the same, over the floor that waits",
    "ephemeral_over_core_floor_p50": "target 2 or less",
    "durable_step_ms": f"a step without what its run costs besides: runs of {LONG}, less runs of {STEPS}",
    "durable_step_over_floor": "the same of both; target 1.25 or less",
    "durable_steps_per_s": f"{IN_FLIGHT} sessions in flight",
    "durable_throughput_over_floor": "the median of each turn's; target 0.65 or more",
    "durable_throughput_over_waiting_floor": "the same, over the floor that waits",
    "journal_floor_cpu_us": "CPU of all processes together, a step; below, by process",
    "durable_cpu_us": "the same of dspex",
    "durable_cpu_over_floor": "steadier than times where other work shares the machine",
    "fanout64_over_floor": "64 branches and a join, time over the bare protocol's; target 1.4 or less",
    "fanout256_over_floor": "256 branches and a join; target 1.4 or less",
    "fanout64_over_waiting_floor": "64 branches, over the floor that waits",
    "fanout256_over_waiting_floor": "256 branches, over the floor that waits",
    "durable_1024_steps_per_s": f"{MANY_IN_FLIGHT} sessions in flight",
    "fanout4096_over_floor": "4,096 branches and a join",
    "fused10_run_ms": "a run of ten fused steps, one in flight, with all that a run costs besides",
    "fused10_steps_ms": "the same without what a run of one step costs besides its step",
    "fused10_steps_over_hop": "that over one task and its outcome on the bare protocol; target 2 or less",
    "fused_steps_per_s": f"runs of {LONG} fused steps, {IN_FLIGHT} in flight; target 50000 or more",
    "fused_step_cpu_us": "CPU of the server, the router, the worker and the client together, a step",
}


@contextlib.asynccontextmanager
async def process(*command: str) -> AsyncIterator[None]:
    """A process of ours, there until the block ends. It is ready once it has said so."""
    child = await asyncio.create_subprocess_exec(*command, cwd=HERE, stdout=subprocess.PIPE)
    try:
        async with asyncio.timeout(30):
            assert child.stdout is not None
            if not await child.stdout.readline():
                raise SystemExit(f"{' '.join(command)} ended before it was ready")
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        try:
            await asyncio.wait_for(child.wait(), 10)
        except TimeoutError:
            child.kill()
            await child.wait()


def sequential(steps: int, *, fuse: bool, name: str) -> dspex.PipelineDefinition:
    return dspex.pipeline([dspex.native("bench.noop")] * steps, fuse=fuse, name=name)


def fan_out(width: int) -> dspex.PipelineDefinition:
    branch = dspex.native("bench.noop")
    return dspex.pipeline([dspex.parallel([branch] * width, save_as="results")], name=f"fanout{width}")


class Product:
    """dspex as its users run it."""

    def __init__(self, client: dspex.Client) -> None:
        self._client = client

    async def prepare(self) -> None:
        for definition in (
            sequential(STEPS, fuse=False, name="sequential"),
            sequential(1, fuse=False, name="single"),
            sequential(LONG, fuse=False, name="hundred"),
            sequential(STEPS, fuse=True, name="fused"),
            sequential(LONG, fuse=True, name="long"),
            fan_out(64),
            fan_out(256),
            fan_out(4096),
        ):
            await self._client.put_pipeline(definition)
        await self._client.run("sequential", PAYLOAD, timeout_s=60)

    async def run(self, durability: str) -> None:
        result = await self._client.run("sequential", PAYLOAD, durability=durability)
        assert result.output is not None
        assert result.output["count"] == STEPS

    async def count(self, pipeline: str, steps: int) -> None:
        result = await self._client.run(pipeline, PAYLOAD)
        assert result.output is not None
        assert result.output["count"] == steps

    async def fan_out(self, width: int) -> None:
        result = await self._client.run(f"fanout{width}", PAYLOAD)
        assert result.output is not None
        assert len(result.output["results"]) == width


async def measure(options: argparse.Namespace) -> dict[str, float]:
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedServer(sync_always=options.sync_always))
        url = server.url
        command = (sys.executable, "-m", "dspex")
        for _ in range(options.routers):
            await stack.enter_async_context(process(*command, "router", "--server", url))
        serve = ("serve", "handlers:handlers", "--pool", "bench", "--size", "1", "--slots", "256", "--server", url)
        await stack.enter_async_context(process(*command, *serve))
        await stack.enter_async_context(process(sys.executable, "floor.py", url, *["--asyncio"] * options.asyncio))
        raw = await nats.connect(url)
        stack.push_async_callback(raw.close)
        core, journal = CoreFloor(raw), JournalFloor(raw, tasks="memory")
        await journal.start()
        product = Product(await stack.enter_async_context(dspex.connect(url)))
        await product.prepare()
        figures = await _figures(core, journal, product, options.quick)
        return figures | (await _wide(journal, product, options.quick) if options.wide else {})


async def _wide(journal: JournalFloor, product: Product, quick: bool) -> dict[str, float]:
    """Many runs at once, and one that is very wide."""
    blocks, runs, fans = (2, 1500, 2) if quick else (5, 4000, 6)
    works: dict[str, Work] = {"journal_floor": lambda: journal.run(STEPS), "durable": lambda: product.run("stored")}
    rates: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(blocks):
        for name, rate in rates.items():
            rate.append(runs * STEPS / await seconds_in_flight(runs, MANY_IN_FLIGHT, works[name]))
    fan = await _in_turns({"floor": _fan(journal, 4096), "durable": _fan(product, 4096)}, fans)
    figures = {f"{name}_1024_steps_per_s": statistics.median(rate) for name, rate in rates.items()}
    figures["durable_1024_over_floor"] = figures["durable_1024_steps_per_s"] / figures["journal_floor_1024_steps_per_s"]
    figures["fanout4096_floor_ms"], figures["fanout4096_ms"] = milliseconds(fan["floor"]), milliseconds(fan["durable"])
    figures["fanout4096_over_floor"] = figures["fanout4096_ms"] / figures["fanout4096_floor_ms"]
    return figures


async def _figures(core: CoreFloor, journal: JournalFloor, product: Product, quick: bool) -> dict[str, float]:
    """Everything is taken in turns, so that what else the machine does falls on floor and product alike."""
    rounds, blocks, runs, fans = (40, 3, 300, 8) if quick else (300, 9, 600, 40)
    sequential: dict[str, Work] = {
        "core_floor": lambda: core.run(STEPS),
        "ephemeral": lambda: product.run("none"),
        "journal_floor": lambda: journal.run(STEPS),
        "waiting_floor": lambda: journal.run(STEPS, waits=True),
        "durable": lambda: product.run("stored"),
    }
    for work in sequential.values():
        await seconds_each(20, work)
    gc.collect()
    gc.freeze()  # what dspex brought into this process is not the floor's to walk through
    figures: dict[str, float] = {}
    for name, times in (await _in_turns(sequential, rounds)).items():
        figures[f"{name}_ms_per_step"] = milliseconds(times) / STEPS
    figures["durable_over_journal_floor_p50"] = figures["durable_ms_per_step"] / figures["journal_floor_ms_per_step"]
    figures["durable_over_waiting_floor_p50"] = figures["durable_ms_per_step"] / figures["waiting_floor_ms_per_step"]
    figures["ephemeral_over_core_floor_p50"] = figures["ephemeral_ms_per_step"] / figures["core_floor_ms_per_step"]
    figures |= await _step(journal, product, rounds // 4)
    figures |= await _throughput(sequential, blocks, runs)
    for width in (64, 256):
        works = {"floor": _fan(journal, width), "waiting": _waiting(journal, width), "durable": _fan(product, width)}
        floor, waiting, durable = map(milliseconds, (await _in_turns(works, fans)).values())
        figures[f"fanout{width}_floor_ms"], figures[f"fanout{width}_ms"] = floor, durable
        figures[f"fanout{width}_over_floor"] = durable / floor
        figures[f"fanout{width}_over_waiting_floor"] = durable / waiting
    return figures | await _fused(journal, product, quick)


async def _step(journal: JournalFloor, product: Product, rounds: int) -> dict[str, float]:
    """What one step more costs."""
    works: dict[str, Work] = {
        "floor": lambda: journal.run(STEPS),
        "floor_long": lambda: journal.run(LONG),
        "durable": lambda: product.count("sequential", STEPS),
        "durable_long": lambda: product.count("hundred", LONG),
    }
    times = {name: milliseconds(taken) for name, taken in (await _in_turns(works, rounds)).items()}
    steps = {name: (times[f"{name}_long"] - times[name]) / (LONG - STEPS) for name in ("floor", "durable")}
    return {
        "journal_floor_step_ms": steps["floor"],
        "durable_step_ms": steps["durable"],
        "durable_step_over_floor": steps["durable"] / steps["floor"],
    }


async def _fused(journal: JournalFloor, product: Product, quick: bool) -> dict[str, float]:
    """Of a run of ten fused steps, what is not the run's own; and how many go through in long runs."""
    rounds, blocks, runs = (60, 3, 250) if quick else (400, 9, 500)
    works: dict[str, Work] = {
        "floor": lambda: journal.run(STEPS),
        "single": lambda: product.count("single", 1),
        "apart": lambda: product.count("sequential", STEPS),
        "fused": lambda: product.count("fused", STEPS),
    }
    times = {name: milliseconds(taken) for name, taken in (await _in_turns(works, rounds)).items()}
    step = (times["apart"] - times["single"]) / (STEPS - 1)
    steps = times["fused"] - times["single"] + step
    rates, cpu = [], []
    for _ in range(blocks):
        before = cpu_seconds()
        rates.append(runs * LONG / await seconds_in_flight(runs, IN_FLIGHT, lambda: product.count("long", LONG)))
        cpu.append((cpu_seconds() - before) / runs / LONG)
    return {
        "single_run_ms": times["single"],
        "fused10_run_ms": times["fused"],
        "fused10_steps_ms": steps,
        "fused10_steps_over_hop": steps / (times["floor"] / STEPS),
        "fused_steps_per_s": statistics.median(rates),
        "fused_step_cpu_us": statistics.median(cpu) * 1e6,
    }


async def _throughput(works: dict[str, Work], blocks: int, runs: int) -> dict[str, float]:
    rates: dict[str, list[float]] = {name: [] for name in works}
    cpu: dict[str, list[Counter[str]]] = {name: [] for name in works}
    for _ in range(blocks):
        for name, rate in rates.items():
            before = cpu_by_process()
            rate.append(runs * STEPS / await seconds_in_flight(runs, IN_FLIGHT, works[name]))
            cpu[name].append(cpu_by_process() - before)
    figures = {f"{name}_steps_per_s": statistics.median(rate) for name, rate in rates.items()}
    for name in ("journal_floor", "durable"):
        figures |= _microseconds(name, cpu[name], runs * STEPS)
    figures["durable_cpu_over_floor"] = figures["durable_cpu_us"] / figures["journal_floor_cpu_us"]
    for product, floor in (("durable", "journal_floor"), ("ephemeral", "core_floor")):
        figures[f"{product}_throughput_over_floor"] = _median_ratio(rates[product], rates[floor])
    figures["durable_throughput_over_waiting_floor"] = _median_ratio(rates["durable"], rates["waiting_floor"])
    return figures


def _median_ratio(ours: list[float], bare: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(ours, bare, strict=True))


def _microseconds(name: str, blocks: list[Counter[str]], steps: int) -> dict[str, float]:
    """CPU a step, all together and by process."""
    figures = {f"{name}_cpu_us": statistics.median(used.total() for used in blocks) / steps * 1e6}
    for process in ("server", "router", "worker", "floor", "client"):
        figures[f"{name}_{process}_cpu_us"] = statistics.median(used[process] for used in blocks) / steps * 1e6
    return {what: value for what, value in figures.items() if value}


def _fan(target: Product | JournalFloor, width: int) -> Work:
    return lambda: target.fan_out(width)


def _waiting(floor: JournalFloor, width: int) -> Work:
    return lambda: floor.fan_out(width, waits=True)


async def _in_turns(works: dict[str, Work], rounds: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            taken[name] += await seconds_each(1, work)
    return taken


def main() -> None:
    options = arguments(__doc__ or "", more=OPTIONS)
    print(f"hot modules compiled: {'yes' if compiled() else 'no'}")
    report(run_loop(measure(options), plain=options.asyncio), options.json, NOTES)


if __name__ == "__main__":
    main()
