"""DSPy in pools beside DSPy in one process: a call, an evaluation, an optimizer, and one that is killed.

The same model answers both sides, from a process of its own: one that costs next to nothing and takes 50 ms over an
answer for evaluations, the offline LM for optimizers. Results are compared, and the run stops if they are not equal.

    python benchmarks/dspy_pools.py [--quick] [--json FILE] [--calls 100000]

With --calls a worker's memory is watched over that many requests, and nothing else is measured.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import engine_path
import predict_path
from timing import arguments, milliseconds, report, run_loop, seconds_each, seconds_in_flight

import dspex
from dspex.jobs import ModuleSpec
from dspex_services.cache.asking import clear

LATENCY_S = 0.05
SLOTS = 8
"""Of one worker."""

THREADS = 2 * SLOTS
OFFLINE = "openai/offline-extractive"
JOB_SIGNATURE = "context, question -> answer"
SEED = 7

NOTES = {
    "bus_overhead_ms_p50": "dspy.Predict through the bus less the same call in process",
    "two_workers_speedup": f"calls a second, two workers against one, the model taking {LATENCY_S * 1000:g} ms",
    "two_workers_speedup_no_latency": "the same with a model that takes no time: what the cores allow; not when quick",
    "engine_speedup": "LM calls a second over our engine against DSPy's own path; target 3 or more",
    "evaluate_over_dspy": "time over dspy.Evaluate's with as many threads as one worker has slots; target 1 or less",
    "evaluate_two_workers_speedup": "the same evaluation with two workers against one",
    "evaluate_s": "",
    "evaluate_s_dspy": "",
    "mipro_over_dspy": "time over plain MIPROv2's, with as many threads; the programs are equal",
    "mipro_s": "",
    "mipro_s_dspy": "",
    "lm_calls_paid_twice": "by a job whose worker was killed; target 0",
    "job_resumed_s": "kill -9 to the job's end, its worker's start included",
    "memory_calls": "requests that a worker was watched over, after as many again, at most 10,000, to warm it",
    "memory_mb": "resident, when they began",
    "memory_mb_last": "",
    "memory_mb_per_10000_calls": "the slope of a line through all that was seen; target about 0",
    "memory_calls_per_s": "",
}


@contextlib.contextmanager
def system(*arguments: str, environment: dict[str, str]) -> Iterator[str]:
    """``dspex up`` in a process of its own; its server's address."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "dspex", "up", "--port", "0", "--data", folder, "--json", *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **environment}, text=True) as process:
            assert process.stdout is not None
            try:
                yield json.loads(process.stdout.readline())["server"]
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(30)


@contextlib.contextmanager
def counted_lm(takes_s: float) -> Iterator[str]:
    command = [sys.executable, str(predict_path.HERE / "counted_lm.py"), str(takes_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def paid(base_url: str) -> Counter[str]:
    """What has been paid for since this was last asked."""
    with urllib.request.urlopen(f"{base_url.removesuffix('/v1')}/paid?reset=1") as answer:
        return Counter(json.load(answer))


def model(base_url: str, name: str = "openai/canned") -> dict[str, str]:
    return {"DSPEX_MODEL": name, "DSPEX_BASE_URL": base_url, "DSPEX_MODELS": ""}


# --- a call, and an evaluation ---


def calls(quick: bool) -> dict[str, float]:
    figures: dict[str, float] = {}
    rates: list[float] = []
    with predict_path.responder() as base_url:
        for workers in (1,) if quick else (1, 2):
            pools = ("--native", "0", "--dspy", str(workers), "--optimize", "0")
            with system(*pools, environment=model(base_url)) as server:
                took, rate = run_loop(_through_the_bus(server, quick))
            rates.append(rate)
            if workers == 1:
                figures["bus_overhead_ms_p50"] = took - run_loop(_in_process(base_url, quick))
    if len(rates) == 2:
        figures["two_workers_speedup_no_latency"] = rates[1] / rates[0]
    return figures


def evaluations(quick: bool) -> dict[str, float]:
    count = 200 if quick else 500
    rows = [
        {**predict_path.INPUTS, "question": f"{place}: how many?", **predict_path.EXPECTED} for place in range(count)
    ]
    rates: list[float] = []
    took: list[float] = []
    with predict_path.responder(LATENCY_S) as base_url:
        theirs = _evaluated_by_dspy(base_url, rows)
        for workers in (1, 2):
            pools = ("--native", "1", "--dspy", str(workers), "--optimize", "0")
            with system(*pools, environment=model(base_url)) as server:
                rates.append(run_loop(_through_the_bus(server, quick))[1])
                took.append(run_loop(_evaluated(server, rows)))
    return {
        "two_workers_speedup": rates[1] / rates[0],
        "evaluate_over_dspy": took[0] / theirs,
        "evaluate_two_workers_speedup": took[0] / took[1],
        "evaluate_s": took[0],
        "evaluate_s_dspy": theirs,
    }


async def _through_the_bus(server: str, quick: bool) -> tuple[float, float]:
    """Milliseconds of a call alone, and calls a second with many in flight."""
    async with dspex.connect(server) as client:

        async def call() -> None:
            found = await client.call(
                "dspy.Predict", inputs=predict_path.INPUTS, constants={"signature": predict_path.SIGNATURE}
            )
            assert dict(found) == predict_path.EXPECTED

        await seconds_each(20, call)
        taken = await seconds_each(60 if quick else 400, call)
        count = 200 if quick else 800
        return milliseconds(taken), count / await seconds_in_flight(count, 64, call)


async def _in_process(base_url: str, quick: bool) -> float:
    import dspy

    from dspex_services.dspy.engine import Engine
    from dspex_services.lm import Configured

    engine = Engine(Configured(model(base_url)))
    predict = dspy.Predict(predict_path.SIGNATURE)

    async def call() -> None:
        await predict.acall(**predict_path.INPUTS)

    with dspy.context(lm=engine.lm("openai/canned"), adapter=dspy.ChatAdapter(), disable_history=True, trace=[]):
        await seconds_each(20, call)
        taken = await seconds_each(100 if quick else 400, call)
    await engine.aclose()
    return milliseconds(taken)


def _evaluated_by_dspy(base_url: str, rows: list[dict[str, Any]]) -> float:
    import dspy

    lm = dspy.LM("openai/canned", api_base=base_url, api_key="none", cache=False)
    examples = [dspy.Example(**row).with_inputs("context", "question") for row in rows]

    def metric(example: Any, prediction: Any, trace: Any = None) -> float:
        return float(example.answer == prediction.answer)

    evaluate = dspy.Evaluate(devset=examples, metric=metric, num_threads=SLOTS)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter(), disable_history=True):
        predict = dspy.Predict(predict_path.SIGNATURE)
        predict(**predict_path.INPUTS)
        started = time.perf_counter()
        found = evaluate(predict)
    assert found.score == 100, found.score
    return time.perf_counter() - started


async def _evaluated(server: str, rows: list[dict[str, Any]]) -> float:
    step = dspex.module("dspy.Predict", signature=predict_path.SIGNATURE)
    async with dspex.connect(server) as client:
        await client.evaluate(step, rows[:SLOTS])
        started = time.perf_counter()
        found = await client.evaluate(step, rows)
        assert found.summary.score == 100, found.summary
        return time.perf_counter() - started


# --- memory ---


def memory(count: int) -> dict[str, float]:
    with predict_path.responder() as base_url:
        pools = ("--native", "0", "--dspy", "1", "--optimize", "0")
        with system(*pools, environment=model(base_url)) as server:
            return run_loop(_watched(server, count))


async def _watched(server: str, count: int) -> dict[str, float]:
    async with dspex.connect(server) as client:
        asked = 0

        async def call() -> None:
            nonlocal asked
            asked += 1
            inputs = {**predict_path.INPUTS, "question": f"{asked}: how many?"}
            constants = {"signature": predict_path.SIGNATURE}
            assert dict(await client.call("dspy.Predict", inputs=inputs, constants=constants)) == predict_path.EXPECTED

        await seconds_in_flight(min(count, 10_000), 16, call)
        pid = await _worker(client, "dspy")
        seen = [resident_mb(pid)]
        taken = 0.0
        for _ in range(20):
            taken += await seconds_in_flight(count // 20, 16, call)
            seen.append(resident_mb(pid))
        if await _worker(client, "dspy") != pid:
            raise RuntimeError("the worker was replaced meanwhile: its memory says nothing")
    slope = statistics.linear_regression(range(len(seen)), seen).slope
    return {
        "memory_calls": float(count),
        "memory_mb": seen[0],
        "memory_mb_last": seen[-1],
        "memory_mb_per_10000_calls": slope * 20 / count * 10_000,
        "memory_calls_per_s": count / taken,
    }


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


# --- an optimizer ---


def job_rows() -> list[dict[str, str]]:
    people = ("Ada Lovelace", "Kurt Goedel", "Emmy Noether", "Alan Turing", "Grace Hopper", "Mary Shelley")
    return [
        {
            "context": f"{person} made tool {place}. {people[place % 5]} slept.",
            "question": f"Who made tool {place}?",
            "answer": person,
        }
        for place, person in enumerate(people * 5)
    ]


def jobs(quick: bool) -> dict[str, float]:
    candidates = 4 if quick else 8
    with counted_lm(LATENCY_S) as base_url:
        theirs, state = _optimized_by_dspy(base_url, candidates)
        paid(base_url)
        pools = ("--native", "0", "--dspy", "2", "--optimize", "1")
        with system(*pools, environment=model(base_url, OFFLINE)) as server:
            return run_loop(_jobs(server, base_url, candidates, theirs, state))


async def _jobs(server: str, base_url: str, candidates: int, theirs: float, state: Any) -> dict[str, float]:
    async with dspex.connect(server) as client:

        async def start() -> Any:
            return await client.start_optimizing(
                ModuleSpec(module="dspy.ChainOfThought", signature=JOB_SIGNATURE),
                job_rows(),
                metric="exact_match",
                num_candidates=candidates,
                seed=SEED,
                threads=THREADS,
                program="bench",
            )

        started = time.perf_counter()
        found = await (await start()).result()
        ours = time.perf_counter() - started
        if await client.programs.state(found.digest) != state:
            raise RuntimeError("the pools' program is not the one that plain DSPy makes")
        unbroken = paid(base_url)

        await clear(client.bus)
        job = await start()
        async for said in job.progress():
            if said.phase == "evaluating" and said.trials >= 2:
                break
        killed = time.perf_counter()
        os.kill(await _worker(client, "optimize"), signal.SIGKILL)
        again = await job.result()
        resumed = time.perf_counter() - killed
        if again.digest != found.digest or again.restarts != 1:
            raise RuntimeError(f"the killed job came to another program, after {again.restarts} restarts")
        return {
            "mipro_over_dspy": ours / theirs,
            "mipro_s": ours,
            "mipro_s_dspy": theirs,
            "lm_calls_paid_twice": float(sum((paid(base_url) - unbroken).values())),
            "job_resumed_s": resumed,
        }


async def _worker(client: dspex.Client, name: str) -> int:
    with anyio.fail_after(10):
        while True:
            for pool in (await client.pools()).pools:
                if pool.pool == name and pool.workers:
                    return pool.workers[0].pid
            await anyio.sleep(0.1)


def _optimized_by_dspy(base_url: str, candidates: int) -> tuple[float, Any]:
    import dspy

    from dspex_services.evaluation.builtin import normalized
    from dspex_services.optimizing import number_of_trials

    lm = dspy.LM(OFFLINE, api_base=base_url, api_key="none")
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    examples = [dspy.Example(**row).with_inputs("context", "question") for row in job_rows()]

    def metric(example: Any, prediction: Any, trace: Any = None) -> float:
        return float(normalized(example.answer) == normalized(prediction.answer))

    with dspy.context(lm=lm, adapter=dspy.ChatAdapter(), disable_history=True, trace=[]):
        optimizer = dspy.MIPROv2(metric=metric, auto=None, num_candidates=candidates, seed=SEED, num_threads=THREADS)
        started = time.perf_counter()
        program = optimizer.compile(
            dspy.ChainOfThought(JOB_SIGNATURE),
            trainset=examples,
            num_trials=number_of_trials(1, candidates),
            minibatch=False,
        )
    return time.perf_counter() - started, program.dump_state()


def main() -> None:
    options = arguments(__doc__ or "", calls=True)
    logging.getLogger("dspy").setLevel(logging.ERROR)
    with predict_path.environment():
        for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "DSPEX_SERVER", "DSPEX_MODELS"):
            os.environ.pop(name, None)
        if options.calls:
            report(memory(options.calls), options.json, NOTES)
            return
        figures = calls(options.quick)
        figures["engine_speedup"] = engine_path.measure(options.quick)["engine_speedup"]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            figures |= evaluations(options.quick)
            figures |= jobs(options.quick)
    report({name: figures[name] for name in NOTES if name in figures}, options.json, NOTES)


if __name__ == "__main__":
    main()
