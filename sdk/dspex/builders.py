"""Pipelines in Python: each function makes the definition that YAML or JSON would spell out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from dspex_bus.wire import Implementation, PipelineDefinition, RetryPolicy, StepDefinition

_ATTRIBUTES = ("name", "inputs", "outputs", "save_as", "pool", "timeout_s", "retry", "cache_s")


def pipeline(
    steps: Sequence[StepDefinition],
    *,
    name: str = "pipeline",
    description: str = "",
    output: Sequence[str] | None = None,
    timeout_s: float | None = None,
    retry: RetryPolicy | None = None,
) -> PipelineDefinition:
    """A pipeline that runs ``steps`` in order. ``output`` names the context fields a run answers with; without it a run
    answers with its last step's outputs. ``timeout_s`` bounds a whole run, ``retry`` is the steps' default policy."""
    return PipelineDefinition(
        name=name,
        steps=tuple(steps),
        description=description,
        output=None if output is None else tuple(output),
        timeout_s=timeout_s,
        retry=retry,
    )


def native(handler: str, /, **options: Any) -> StepDefinition:
    """A step that a native handler runs: ``native("template", template="Hello {{ name }}")``.

    The step's own attributes (name, inputs, outputs, save_as, pool, timeout_s, retry, cache_s) are taken out of
    ``options``; everything else is a constant for the handler.
    """
    return _step({"native": handler}, options)


def module(path: str, /, **options: Any) -> StepDefinition:
    """A step that a DSPy module runs: ``module("dspy.ChainOfThought", signature="question -> answer")``, or a module
    of your own by import path, ``module("mypackage.programs:MultiHop")``, offered by the pool that serves it."""
    return _step({"module": path}, options)


def call(operation: str, /, *, implementation: Implementation = "auto", **options: Any) -> StepDefinition:
    """A step that leaves the choice to the execution router: ``call("predict", signature="question -> answer")`` runs
    natively where that is offered, else in DSPy, or as ``implementation`` says."""
    return _step({"call": operation, "implementation": implementation}, options)


def parallel(
    branches: Sequence[StepDefinition],
    *,
    name: str | None = None,
    save_as: str | None = None,
    on_error: Literal["fail", "collect"] = "fail",
) -> StepDefinition:
    """Branches that start together. Their outputs are merged by field name (two branches that write one field are
    refused); with ``save_as`` the context gets every branch's outcome as a list, in the order written."""
    return StepDefinition(parallel=tuple(branches), name=name, save_as=save_as, on_error=on_error)


def sequence(steps: Sequence[StepDefinition], *, name: str | None = None) -> StepDefinition:
    """Steps that run in order as one branch of a parallel."""
    return StepDefinition(sequence=tuple(steps), name=name)


def _step(kind: dict[str, Any], options: dict[str, Any]) -> StepDefinition:
    attributes = {key: options.pop(key) for key in _ATTRIBUTES if key in options}
    return StepDefinition(**kind, **attributes, with_=options)
