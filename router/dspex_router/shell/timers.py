"""Every timer of every session: one heap, one task."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Awaitable, Callable

import anyio

from .clock import now_ms

_LONGEST_SLEEP_S = 5.0
"""The wall clock may be set while we sleep: look at it again at least this often."""

_SLACK = 1024

Action = Callable[[], Awaitable[None]]


class Timers:
    """``alive`` says whether a session still wants its timers. Those of sessions that ended are dropped lazily, so that
    an end costs nothing here."""

    def __init__(self, alive: Callable[[str], bool]) -> None:
        self._alive = alive
        self._heap: list[tuple[int, int, str, Action]] = []
        self._order = itertools.count()
        self._compact_at = _SLACK
        self._sooner = anyio.Event()

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, at_ms: int, session: str, action: Action) -> None:
        """``action`` must be short, and raise nothing."""
        sooner = not self._heap or at_ms < self._heap[0][0]
        heapq.heappush(self._heap, (at_ms, next(self._order), session, action))
        if len(self._heap) > self._compact_at:
            self._compact()
        if sooner:
            self._sooner.set()

    async def run(self) -> None:
        while True:
            self._sooner = anyio.Event()
            for action in self._due(now_ms()):
                await action()
            with anyio.move_on_after(self._sleep_s()):
                await self._sooner.wait()

    def _due(self, now: int) -> list[Action]:
        due = []
        while self._heap and self._heap[0][0] <= now:
            _, _, session, action = heapq.heappop(self._heap)
            if self._alive(session):
                due.append(action)
        return due

    def _sleep_s(self) -> float:
        if not self._heap:
            return _LONGEST_SLEEP_S
        return min(max(self._heap[0][0] - now_ms(), 1) / 1000, _LONGEST_SLEEP_S)

    def tidy(self) -> None:
        """Sessions that may come back have gone: what is left of theirs would be kept until it is due."""
        self._compact()

    def _compact(self) -> None:
        self._heap = [entry for entry in self._heap if self._alive(entry[2])]
        heapq.heapify(self._heap)
        self._compact_at = 2 * len(self._heap) + _SLACK
