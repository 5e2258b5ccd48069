"""What DSPy's calls cost over our engine and over its own: loopback HTTP, cache off, 32 in flight and one by one.

``engine_speedup`` is the LM's call alone, which is what an engine replaces; the predict figures have DSPy's own
formatting and parsing in both.

    python benchmarks/engine_path.py [--quick] [--json FILE]
"""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable
from typing import Any

import predict_path
from timing import arguments, report, run_loop, seconds_in_flight

from dspex_services.lm import Configured

NOTES = {
    "engine_speedup": "LM calls a second, 32 in flight; target 3 or more",
    "engine_predict_speedup": "the same for dspy.Predict as a whole",
    "engine_sync_cpu_speedup": "CPU of a blocking LM call",
    "engine_sync_predict_cpu_speedup": "CPU of a blocking dspy.Predict",
    "engine_calls_per_s": "",
    "engine_calls_per_s_dspy": "",
}


def measure(quick: bool) -> dict[str, float]:
    import dspy

    from dspex_services.dspy.engine import Engine

    with predict_path.environment(), predict_path.responder() as base_url:
        engine = Engine(Configured({"DSPEX_BASE_URL": base_url, "DSPEX_MODEL": "openai/canned"}))
        lms = {
            "ours": engine.lm("openai/canned"),
            "dspy": dspy.LM("openai/canned", api_base=base_url, api_key="none", cache=False),
        }
        with dspy.context(adapter=dspy.ChatAdapter(), disable_history=True, trace=[]):
            figures = _sync(lms, quick)
            return figures | run_loop(_async(lms, engine, quick))


def _sync(lms: dict[str, Any], quick: bool) -> dict[str, float]:
    import dspy

    predict = dspy.Predict(predict_path.SIGNATURE)
    rounds, calls = (3, 100) if quick else (5, 300)
    spent: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for name, lm in lms.items():
            with dspy.context(lm=lm):
                predict_path.check(predict(**predict_path.INPUTS))
                call: Callable[[], Any] = lambda lm=lm: lm("What is it?")  # noqa: E731
                whole: Callable[[], Any] = lambda: predict(**predict_path.INPUTS)  # noqa: E731
                for kind, work in (("lm", call), ("predict", whole)):
                    spent.setdefault((kind, name), []).append(predict_path.cpu_seconds(work, calls))
    best = {key: min(times) for key, times in spent.items()}
    return {
        "engine_sync_cpu_speedup": best["lm", "dspy"] / best["lm", "ours"],
        "engine_sync_predict_cpu_speedup": best["predict", "dspy"] / best["predict", "ours"],
    }


async def _async(lms: dict[str, Any], engine: Any, quick: bool) -> dict[str, float]:
    """In turns, so that what else the machine does falls on both alike; medians."""
    import dspy

    predict = dspy.Predict(predict_path.SIGNATURE)
    rates: dict[tuple[str, str], list[float]] = {}
    for turn in range(6 if quick else 16):
        for name, lm in lms.items():
            with dspy.context(lm=lm):
                call: Callable[[], Awaitable[Any]] = lambda lm=lm: lm.acall("What is it?")  # noqa: E731
                whole: Callable[[], Awaitable[Any]] = lambda: predict.acall(**predict_path.INPUTS)  # noqa: E731
                for kind, work in (("lm", call), ("predict", whole)):
                    count = 256 if name == "ours" else 96
                    seconds = await seconds_in_flight(count, predict_path.IN_FLIGHT, work)
                    if turn:  # the first opens the connections
                        rates.setdefault((kind, name), []).append(count / seconds)
    await engine.aclose()
    medians = {key: statistics.median(found) for key, found in rates.items()}
    return {
        "engine_speedup": medians["lm", "ours"] / medians["lm", "dspy"],
        "engine_predict_speedup": medians["predict", "ours"] / medians["predict", "dspy"],
        "engine_calls_per_s": medians["lm", "ours"],
        "engine_calls_per_s_dspy": medians["lm", "dspy"],
    }


def main() -> None:
    options = arguments(__doc__ or "")
    report(measure(options.quick), options.json, NOTES)


if __name__ == "__main__":
    main()
