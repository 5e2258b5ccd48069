"""What one predict costs over loopback HTTP: dspy.Predict over dspy.LM against the native path, cache off.

The model is a responder in a process of its own that answers every request alike: only the client's cost counts. In
flight it is the pool's own handler that is measured, as a worker calls it; one by one, the parts a blocking caller has.

    python benchmarks/predict_path.py [--quick] [--json FILE]
"""

from __future__ import annotations

import contextlib
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
from timing import arguments, report, run_loop, seconds_in_flight

from dspex_bus.process import settle
from dspex_bus.signatures import parse_signature
from dspex_services.cache import Cache
from dspex_services.handlers import Step
from dspex_services.lm import LMConfig, LMRequest, SyncLMClient, openai
from dspex_services.native import chat_messages, parse_chat_reply
from dspex_services.native.models import Models
from dspex_services.native.predicting import PredictOptions
from dspex_services.native.predicting import predict as native_predict

HERE = Path(__file__).parent
IN_FLIGHT = 32
SIGNATURE = "context: list[str], question: str -> answer: str, confidence: float"
INPUTS = {
    "context": ["A worker pulls as many tasks as it has free slots.", "A heartbeat is sent every five seconds."],
    "question": "How many tasks does a worker pull?",
}
REPLY = """\
[[ ## answer ## ]]
As many as it has free slots.

[[ ## confidence ## ]]
0.9

[[ ## completed ## ]]"""
EXPECTED = {"answer": "As many as it has free slots.", "confidence": 0.9}
NOTES = {
    "predict_sync_cpu_speedup": "target 6 or more",
    "predict_async32_speedup": "target 12 or more",
    "predict_async32_over_bare_http": "time over bare aiohttp posting the same bytes; target 1.6 or less",
    "predict_async32_over_bare_cpu": "the same by this process's CPU, which other work on the machine does not change",
    "predict_sync_cpu_us_dspy": "CPU of this process a call",
    "predict_sync_cpu_us_native": "",
    "predict_async32_dspy_calls_per_s": f"{IN_FLIGHT} in flight",
    "predict_async32_native_calls_per_s": "",
    "predict_async32_bare_calls_per_s": "",
}


def measure(quick: bool) -> dict[str, float]:
    """The figures of NOTES. DSPy keeps to its fast path: an address in the environment would send it to litellm."""
    with environment(), responder() as base_url:
        figures = _sync(base_url, quick)
        thresholds = gc.get_threshold()
        settle()  # as in a worker: what DSPy's import left behind would be walked in the middle of everybody's rounds
        figures |= run_loop(_async(base_url, quick))
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        if "litellm" in sys.modules:
            raise RuntimeError("DSPy left its fast path for litellm: the comparison would flatter us")
    return figures


@contextlib.contextmanager
def environment() -> Iterator[None]:
    kept = dict(os.environ)
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    for name in ("OPENAI_API_BASE", "OPENAI_BASE_URL"):
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


@contextlib.contextmanager
def responder(takes_s: float = 0.0) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        reply = Path(folder, "reply")
        reply.write_text(REPLY)
        command = [sys.executable, str(HERE / "responder.py"), str(reply), str(takes_s)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
            finally:
                process.terminate()


async def _silent(note: str, fraction: float | None) -> None:
    pass


async def _at_once(function: Any) -> Any:
    return function()


def step_for(inputs: dict[str, Any], cache: Cache | None = None) -> Step:
    """What a worker gives a handler, but for the bus."""
    return Step(
        session="s",
        node="0",
        attempt=1,
        worker="bench",
        inputs=inputs,
        options={},
        bus=None,  # type: ignore[arg-type]  # no handler here calls another
        clock=time.monotonic,
        ends_at=time.monotonic() + 60,
        say=_silent,
        thread=_at_once,
        cache=cache,
    )


def _config(base_url: str) -> LMConfig:
    return LMConfig(model="openai/canned", base_url=base_url)


@contextlib.contextmanager
def _dspy_predict(base_url: str) -> Iterator[Any]:
    import dspy

    lm = dspy.LM("openai/canned", api_base=base_url, api_key="none", cache=False)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter(), disable_history=True, trace=[]):
        yield dspy.Predict(SIGNATURE)


def check(found: Any) -> None:
    if {name: found[name] for name in EXPECTED} != EXPECTED:
        raise RuntimeError(f"a wrong reply makes the figures worthless: {found}")


def _sync(base_url: str, quick: bool) -> dict[str, float]:
    """CPU seconds a call; the best of some rounds, for what else runs only ever adds."""
    rounds, calls = (3, 100) if quick else (5, 300)
    signature = parse_signature(SIGNATURE)
    with _dspy_predict(base_url) as predict, SyncLMClient(_config(base_url), env={}) as lm:

        def native() -> Any:
            reply = lm.complete(LMRequest(messages=chat_messages(signature, INPUTS)))
            return parse_chat_reply(signature, reply.text)

        works: dict[str, Callable[[], Any]] = {"dspy": lambda: predict(**INPUTS), "native": native}
        for work in works.values():
            for _ in range(20):
                check(work())
        spent: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(rounds):
            for name, work in works.items():
                spent[name].append(cpu_seconds(work, calls))
    dspy_s, native_s = min(spent["dspy"]), min(spent["native"])
    return {
        "predict_sync_cpu_speedup": dspy_s / native_s,
        "predict_sync_cpu_us_dspy": dspy_s * 1e6,
        "predict_sync_cpu_us_native": native_s * 1e6,
    }


def cpu_seconds(work: Callable[[], Any], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        work()
    return (time.process_time() - start) / calls


async def _async(base_url: str, quick: bool) -> dict[str, float]:
    """Calls a second, in turns, so that what else the machine does falls on all alike; medians."""
    rounds = 9 if quick else 31
    messages = chat_messages(parse_signature(SIGNATURE), INPUTS)
    call = openai.encode(_config(base_url), LMRequest(messages=messages), None)
    options = PredictOptions(signature=SIGNATURE)
    models = Models({"DSPEX_MODEL": "openai/canned", "DSPEX_BASE_URL": base_url})
    with _dspy_predict(base_url) as predict:
        async with aiohttp.ClientSession() as http:

            async def native() -> Any:
                return await native_predict(models, options, step_for(INPUTS))

            async def bare() -> None:
                async with http.post(base_url + call.path, data=call.body, headers=call.headers) as response:
                    await response.read()

            async def dspy_call() -> Any:
                return await predict.acall(**INPUTS)

            works: dict[str, tuple[Callable[[], Awaitable[Any]], int]] = {
                "dspy": (dspy_call, 64),
                "native": (native, 1000),
                "bare": (bare, 1000),
            }
            check(await dspy_call())
            check(await native())
            rates: dict[str, list[float]] = {name: [] for name in works}
            spent: dict[str, list[float]] = {name: [] for name in works}
            for work, _ in works.values():
                await seconds_in_flight(2 * IN_FLIGHT, IN_FLIGHT, work)  # opens the connections
            for _ in range(rounds):
                for name, (work, calls) in works.items():
                    began = time.process_time()
                    rates[name].append(calls / await seconds_in_flight(calls, IN_FLIGHT, work))
                    spent[name].append((time.process_time() - began) / calls)
    await models.close()
    over_bare = [bare / native for bare, native in zip(rates["bare"], rates["native"], strict=True)]
    cpu = [native / bare for native, bare in zip(spent["native"], spent["bare"], strict=True)]
    medians = {name: statistics.median(rate) for name, rate in rates.items()}
    return {
        "predict_async32_speedup": medians["native"] / medians["dspy"],
        "predict_async32_over_bare_http": statistics.median(over_bare),
        "predict_async32_over_bare_cpu": statistics.median(cpu),
        **{f"predict_async32_{name}_calls_per_s": rate for name, rate in medians.items()},
    }


def main() -> None:
    options = arguments(__doc__ or "")
    report(measure(options.quick), options.json, NOTES)


if __name__ == "__main__":
    main()
