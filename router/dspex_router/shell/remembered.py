"""What is worked out of definitions, once for each: the same ones are started over and over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from dspex_bus.wire import PipelineDefinition

_KEPT = 64

T = TypeVar("T")


class Remembered(Generic[T]):
    """What ``make`` makes of a definition, as long as the very same object comes again."""

    def __init__(self, make: Callable[[PipelineDefinition], T]) -> None:
        self._make = make
        self._kept: dict[int, tuple[PipelineDefinition, T]] = {}

    def __call__(self, definition: PipelineDefinition) -> T:
        kept = self._kept.get(id(definition))
        if kept is None:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            kept = self._kept[id(definition)] = (definition, self._make(definition))
        return kept[1]
