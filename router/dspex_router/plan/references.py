"""The stored pipelines that a definition's steps name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dspex_bus.wire import PipelineDefinition, StepDefinition

from .structure import bodies


class Reference(NamedTuple):
    """``version`` None: the newest."""

    name: str
    version: str | None = None


def references(definition: PipelineDefinition) -> set[Reference]:
    return set(_below(definition.steps))


def _below(steps: tuple[StepDefinition, ...]) -> Iterator[Reference]:
    for step in steps:
        if step.pipeline is not None:
            yield Reference(step.pipeline, step.version)
        for _, body in bodies(step):
            yield from _below(body)
