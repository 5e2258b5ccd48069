"""What is worked out of definitions, once for each: the same ones are started over and over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

_KEPT = 64

K = TypeVar("K")
T = TypeVar("T")


class Remembered(Generic[K, T]):
    """What ``make`` makes of a definition or a plan, as long as the very same object comes again."""

    def __init__(self, make: Callable[[K], T]) -> None:
        self._make = make
        self._kept: dict[int, tuple[K, T]] = {}

    def __call__(self, subject: K) -> T:
        kept = self._kept.get(id(subject))
        if kept is None:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            kept = self._kept[id(subject)] = (subject, self._make(subject))
        return kept[1]
