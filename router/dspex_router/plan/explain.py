"""What each step of a definition would run on, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from dspex_bus.errors import DspexError
from dspex_bus.wire import ErrorInfo, PipelineDefinition, StepDefinition, error_info

from .catalog import Catalog
from .operations import assign
from .references import Reference
from .structure import KINDS, bodies

_PLACED = ("native", "module", "call")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """``wanted`` is what the step says. Steps that run nothing themselves have no ``handler``; ``error`` is there
    where none can be found."""

    path: str
    name: str
    kind: str
    wanted: str = ""
    implementation: Literal["native", "dspy", ""] = ""
    handler: str = ""
    pool: str = ""
    why: str = ""
    error: ErrorInfo | None = None


def explain(
    definition: PipelineDefinition,
    catalog: Catalog,
    *,
    definitions: Mapping[Reference, PipelineDefinition] | None = None,
) -> tuple[Explained, ...]:
    """Every step, in the order written, those inside it after it. What is wrong with a step does not stop it."""
    return tuple(_explained(definition.steps, "steps", catalog, definitions or {}, (definition.name,)))


def explain_step(step: StepDefinition, catalog: Catalog, path: str) -> Explained:
    kind = next((kind for kind in KINDS if getattr(step, kind) is not None), "")
    wanted = getattr(step, kind) if kind in (*_PLACED, "pipeline", "wait", "map") else ""
    if kind not in _PLACED:
        return Explained(
            path=path, name=step.name or kind.removesuffix("_s"), kind=kind.removesuffix("_s"), wanted=wanted
        )
    name = step.name or wanted
    try:
        choice = assign(step, catalog)
    except DspexError as error:
        return Explained(path=path, name=name, kind=kind, wanted=wanted, error=error_info(error))
    return Explained(
        path=path,
        name=name,
        kind=kind,
        wanted=wanted,
        implementation=choice.implementation,
        handler=choice.handler,
        pool=choice.pool,
        why=choice.why,
    )


def _explained(
    steps: tuple[StepDefinition, ...],
    path: str,
    catalog: Catalog,
    definitions: Mapping[Reference, PipelineDefinition],
    within: tuple[str, ...],
) -> Iterator[Explained]:
    for number, step in enumerate(steps):
        here = f"{path}[{number}]"
        yield explain_step(step, catalog, here)
        for below, body in bodies(step):
            yield from _explained(body, f"{here}.{below}", catalog, definitions, within)
        inner = definitions.get(Reference(step.pipeline, step.version)) if step.pipeline else None
        if inner is not None and inner.name not in within:
            below = f"{here}.pipeline({inner.name}).steps"
            yield from _explained(inner.steps, below, catalog, definitions, (*within, inner.name))
