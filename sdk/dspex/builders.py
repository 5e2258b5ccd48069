"""Pipelines in Python: each function makes the definition that YAML or JSON would spell out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from dspex_bus.errors import InvalidRequest
from dspex_bus.wire import (
    Budget,
    CaseDefinition,
    Implementation,
    JoinKind,
    PipelineDefinition,
    Priority,
    RetryPolicy,
    StepDefinition,
)

from .signing import sendable

_ATTRIBUTES = (
    "name",
    "inputs",
    "outputs",
    "save_as",
    "pool",
    "timeout_s",
    "retry",
    "cache_s",
    "stream",
    "remember",
    "affinity",
    "limits",
    "fuse",
)


def pipeline(
    steps: Sequence[StepDefinition],
    *,
    name: str = "pipeline",
    description: str = "",
    output: Sequence[str] | None = None,
    timeout_s: float | None = None,
    retry: RetryPolicy | None = None,
    budget: Budget | None = None,
    priority: Priority = "normal",
    fuse: bool = True,
) -> PipelineDefinition:
    """A pipeline that runs ``steps`` in order. ``output`` names the context fields a run answers with; without it a run
    answers with its last step's outputs. ``timeout_s`` bounds a whole run, ``retry`` is the steps' default policy,
    ``budget`` what the model calls of a run may use, ``priority`` which of a pool's queues its steps wait in. With
    ``fuse=False`` no steps travel together."""
    return PipelineDefinition(
        name=name,
        steps=_listed(steps),
        description=description,
        output=None if output is None else tuple(output),
        timeout_s=timeout_s,
        retry=retry,
        budget=budget,
        priority=priority,
        fuse=fuse,
    )


def _listed(steps: Sequence[StepDefinition]) -> tuple[StepDefinition, ...]:
    if isinstance(steps, StepDefinition | str) or not all(isinstance(step, StepDefinition) for step in steps):
        raise InvalidRequest("a pipeline takes a list of steps: pipeline([native(…), module(…)])")
    return tuple(steps)


def native(handler: str, /, **options: Any) -> StepDefinition:
    """A step that a native handler runs: ``native("template", template="Hello {{ name }}")``.

    The step's own attributes (name, inputs, outputs, save_as, pool, timeout_s, retry, cache_s, stream, remember,
    affinity, limits, fuse) are taken out of ``options``; everything else is a constant for the handler.
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
    join: JoinKind = "all",
    quorum: int | None = None,
    on_error: Literal["fail", "collect"] = "fail",
    timeout_s: float | None = None,
) -> StepDefinition:
    """Branches that start together. Their outputs are merged by field name (two branches that write one field are
    refused); with ``save_as`` the context gets every branch's outcome as a list, in the order written.

    ``join``: ``all`` of them, ``any`` (the first success; the others are abandoned), a ``quorum`` of so many successes,
    or ``best_effort``: what there is after ``timeout_s`` seconds, the join's deadline."""
    return StepDefinition(
        parallel=tuple(branches),
        name=name,
        save_as=save_as,
        join=join,
        quorum=quorum,
        on_error=on_error,
        timeout_s=timeout_s,
    )


def sequence(steps: Sequence[StepDefinition], *, name: str | None = None) -> StepDefinition:
    """Steps that run in order as one branch of a parallel."""
    return StepDefinition(sequence=tuple(steps), name=name)


def map(
    over: str,
    do: Sequence[StepDefinition],
    *,
    item: str = "item",
    limit: int = 16,
    name: str | None = None,
    save_as: str | None = None,
    join: JoinKind = "all",
    quorum: int | None = None,
    on_error: Literal["fail", "collect"] = "fail",
    timeout_s: float | None = None,
) -> StepDefinition:
    """``do`` for each item of the list in the context's field ``over``, ``limit`` at a time; the item is in the field
    ``item``. Each field that the steps write becomes a list, in the items' order; with ``save_as`` the context gets
    every item's outcome. The rest is as for :func:`parallel`."""
    return StepDefinition(
        map=over,
        do=tuple(do),
        item=item,
        limit=limit,
        name=name,
        save_as=save_as,
        join=join,
        quorum=quorum,
        on_error=on_error,
        timeout_s=timeout_s,
    )


def branch(
    *cases: tuple[str, Sequence[StepDefinition]],
    otherwise: Sequence[StepDefinition] | None = None,
    name: str | None = None,
) -> StepDefinition:
    """The steps of the first case whose condition holds, a CEL expression over the context:
    ``branch(("score > 0.5", [answer]), otherwise=[apologise])``."""
    return StepDefinition(
        branch=tuple(CaseDefinition(when=when, do=tuple(do)) for when, do in cases),
        otherwise=None if otherwise is None else tuple(otherwise),
        name=name,
    )


def loop(steps: Sequence[StepDefinition], *, until: str, at_most: int = 100, name: str | None = None) -> StepDefinition:
    """``steps`` again and again until the condition ``until`` holds after them, ``at_most`` times."""
    return StepDefinition(loop=tuple(steps), until=until, at_most=at_most, name=name)


def subpipeline(
    pipeline: str,
    /,
    *,
    version: str | None = None,
    name: str | None = None,
    inputs: Mapping[str, str] | None = None,
    outputs: Mapping[str, str] | None = None,
    save_as: str | None = None,
    timeout_s: float | None = None,
    retry: RetryPolicy | None = None,
    **constants: Any,
) -> StepDefinition:
    """A stored pipeline, run as a session of its own. Its input is what ``inputs`` names, else the whole context, and
    the ``constants``."""
    return StepDefinition(
        pipeline=pipeline,
        version=version,
        name=name,
        inputs=dict(inputs or {}),
        outputs=dict(outputs or {}),
        save_as=save_as,
        timeout_s=timeout_s,
        retry=retry,
        with_=constants,
    )


def sleep(seconds: float, *, name: str | None = None) -> StepDefinition:
    """A pause of the run, of seconds to weeks: it costs nothing meanwhile, and outlives restarts."""
    return StepDefinition(sleep_s=seconds, name=name)


def wait(
    signal: str,
    *,
    timeout_s: float | None = None,
    default: Mapping[str, Any] | None = None,
    outputs: Mapping[str, str] | None = None,
    save_as: str | None = None,
    name: str | None = None,
) -> StepDefinition:
    """A wait for a signal that any client sends; its payload is the step's output. When none comes within ``timeout_s``
    seconds, the step writes ``default``, or fails where there is none."""
    return StepDefinition(
        wait=signal,
        timeout_s=timeout_s,
        default=None if default is None else dict(default),
        outputs=dict(outputs or {}),
        save_as=save_as,
        name=name,
    )


def _step(kind: dict[str, Any], options: dict[str, Any]) -> StepDefinition:
    attributes = {key: options.pop(key) for key in _ATTRIBUTES if key in options}
    return StepDefinition(**kind, **attributes, with_=sendable(options))
