"""Every timer of every session: one heap, one task."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import anyio

from dspex_bus.clock import Clock

_LONGEST_SLEEP_S = 5.0
"""The bus's clock may be set while we sleep: look at it again at least this often."""

_JUMP_MS = 50.0
"""Less is no jump, but that we know the bus's time better."""

_SLACK = 1024

Action = Callable[[], Awaitable[None]]


class _Timer(NamedTuple):
    """``due_ms`` by the steady clock. ``at_ms`` of one that keeps to the bus's time. No two have one ``number``."""

    due_ms: float
    number: int
    session: str
    action: Action
    at_ms: int | None


class Timers:
    """``alive`` says whether a session still wants its timers. Those of sessions that ended are dropped lazily, so that
    an end costs nothing here.

    What is left of a timer's time passes by a clock that never jumps. The bus's time is looked at when it is set, and
    again only of those that are ``absolute``: of what was begun before our time the bus's clock is all there is."""

    def __init__(self, alive: Callable[[str], bool], clock: Clock) -> None:
        self._alive = alive
        self._clock = clock
        self._ahead_ms = clock.ahead_ms
        self._heap: list[_Timer] = []
        self._order = itertools.count()
        self._compact_at = _SLACK
        self._sooner = anyio.Event()

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, at_ms: int, session: str, action: Action, *, absolute: bool = False) -> None:
        """``action`` must be short, and raise nothing."""
        self._add(at_ms - self._clock.ahead_ms, session, action, at_ms if absolute else None)

    def after(self, delay_ms: float, session: str, action: Action) -> None:
        """See :meth:`set`."""
        self._add(self._clock.steady_ms() + delay_ms, session, action, None)

    def _add(self, due_ms: float, session: str, action: Action, at_ms: int | None) -> None:
        sooner = not self._heap or due_ms < self._heap[0].due_ms
        heapq.heappush(self._heap, _Timer(due_ms, next(self._order), session, action, at_ms))
        if len(self._heap) > self._compact_at:
            self._compact()
        if sooner:
            self._sooner.set()

    async def run(self) -> None:
        while True:
            self._sooner = anyio.Event()
            self._keep_to_the_clock()
            for action in self._due(self._clock.steady_ms()):
                await action()
            with anyio.move_on_after(self._sleep_s()):
                await self._sooner.wait()

    def _keep_to_the_clock(self) -> None:
        ahead_ms = self._clock.ahead_ms
        if abs(ahead_ms - self._ahead_ms) < _JUMP_MS:
            return
        self._ahead_ms = ahead_ms
        self._heap = [
            timer if timer.at_ms is None else timer._replace(due_ms=timer.at_ms - ahead_ms) for timer in self._heap
        ]
        heapq.heapify(self._heap)

    def _due(self, now_ms: float) -> list[Action]:
        due = []
        while self._heap and self._heap[0].due_ms <= now_ms:
            timer = heapq.heappop(self._heap)
            if self._alive(timer.session):
                due.append(timer.action)
        return due

    def _sleep_s(self) -> float:
        if not self._heap:
            return _LONGEST_SLEEP_S
        return min(max(self._heap[0].due_ms - self._clock.steady_ms(), 1) / 1000, _LONGEST_SLEEP_S)

    def tidy(self) -> None:
        """Sessions that may come back have gone: what is left of theirs would be kept until it is due."""
        self._compact()

    def _compact(self) -> None:
        self._heap = [timer for timer in self._heap if self._alive(timer.session)]
        heapq.heapify(self._heap)
        self._compact_at = 2 * len(self._heap) + _SLACK
