"""Evaluation as an ordinary pipeline: a map over the examples, each of which is run and then scored.

So it is durable, runs wherever the pools have room, and is watched, cancelled and retried as any run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from dspex_bus.wire import PipelineDefinition, StepDefinition

from .builtin import COMPARISONS
from .metrics import MetricSpec

_CARRYING = ("dspy.Predict", "dspy.ChainOfThought")
EXAMPLES = "examples"
EXAMPLE = "example"
PREDICTION = "prediction"
SCORED = "scored"

RUN_NODE = "0-n-0"
SCORE_NODE = "0-n-1"
"""Where each example is run and scored: ``n`` is its place."""


def evaluation(
    target: StepDefinition,
    metric: MetricSpec,
    inputs: Sequence[str],
    *,
    parallel: int,
    name: str = "evaluation",
) -> PipelineDefinition:
    """The pipeline that runs ``target`` on each of ``examples``, feeding it the fields ``inputs``."""
    run = _replaced(target, inputs={**{field: f"{EXAMPLE}.{field}" for field in inputs}, **_moved(target)})
    scored = StepDefinition(
        map=EXAMPLES,
        do=(run, scoring(metric, inputs, target)),
        item=EXAMPLE,
        limit=parallel,
        name="examples",
        save_as=SCORED,
        on_error="collect",
    )
    total = StepDefinition(native="score_summary", name="summary", inputs={"results": SCORED})
    return PipelineDefinition(name=name, steps=(scored, total))


def scoring(metric: MetricSpec, inputs: Sequence[str], target: StepDefinition) -> StepDefinition:
    """The step that writes an example's ``score`` and ``feedback``: natively where nothing but the fields is compared,
    or along with the target where its pool can; by a handler of the user's own; or in the DSPy pool."""
    reads = {EXAMPLE: EXAMPLE, PREDICTION: PREDICTION}
    if metric.handler is not None:
        return StepDefinition(call=metric.handler, name="score", with_=metric.with_, inputs=reads)
    spec: dict[str, Any] = {"metric": _plain(metric), "example_inputs": list(inputs)}
    if metric.name in COMPARISONS:
        if target.module in _CARRYING:
            return StepDefinition(module="dspy.Score", pool=target.pool, name="score", with_=spec, inputs=reads)
        return StepDefinition(native="score", name="score", with_=spec, inputs=reads)
    return StepDefinition(module="dspy.Metric", name="score", with_=spec, inputs=reads)


def _plain(metric: MetricSpec) -> dict[str, Any]:
    plain = msgspec.to_builtins(metric)
    assert isinstance(plain, dict)
    return plain


def _moved(target: StepDefinition) -> dict[str, str]:
    """The step's own renamings, which name fields of the example."""
    return {field: f"{EXAMPLE}.{path}" for field, path in target.inputs.items()}


def _replaced(target: StepDefinition, **changes: Any) -> StepDefinition:
    return msgspec.structs.replace(target, name="run", save_as=PREDICTION, outputs={}, **changes)
