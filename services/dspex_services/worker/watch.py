"""A look at every attempt that runs, now and then, in place of timers for each: most are over before the first look."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

from .attempt import Attempt

LOOK_S = 0.01
"""How late a timeout may be."""

QUIET_S = 0.05
"""Attempts shorter than this cost no progress message."""


class Watch:
    """Ends attempts whose time is up. ``slow`` is told once of each that runs for longer than QUIET_S."""

    def __init__(self, slow: Callable[[Attempt], None]) -> None:
        self._slow = slow
        self._began: dict[Attempt, float] = {}
        self._fresh: set[Attempt] = set()
        self._looking = False

    def __iter__(self) -> Iterator[Attempt]:
        return iter(list(self._began))

    def add(self, attempt: Attempt) -> None:
        self._began[attempt] = time.monotonic()
        self._fresh.add(attempt)
        self._look_later()

    def remove(self, attempt: Attempt) -> None:
        del self._began[attempt]
        self._fresh.discard(attempt)

    def _look_later(self) -> None:
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._looking = False
        now = time.monotonic()
        for attempt in self:
            attempt.end_if_late(now)
        for attempt in [attempt for attempt in self._fresh if now - self._began[attempt] > QUIET_S]:
            self._fresh.remove(attempt)
            self._slow(attempt)
        if self._began:
            self._look_later()
