"""What a process has borrowed of a rate and not used yet. Pure: time is an argument."""

from __future__ import annotations

import math
from collections import deque

from .book import each_ms

CHUNK_MS = 250.0
"""A process that calls much borrows so much of the rate's time at once."""
_LATE_MS = 1_000.0


class Lease:
    """``back`` counts the units that are to be given back; fewer than none are owed."""

    def __init__(self, per_minute: float) -> None:
        self.begins_ms = -math.inf
        self.back = 0.0
        self._each_ms = each_ms(per_minute)
        self._chunk = CHUNK_MS / self._each_ms
        self._parts: deque[tuple[float, float]] = deque()
        self._used = 0.0
        self._since_ms = 0.0

    def has(self, units: float, now_ms: float) -> bool:
        """Units whose time has long passed are no longer there: used late, they would be too many at once."""
        while self._parts and self._parts[0][0] + self._parts[0][1] * self._each_ms < now_ms - _LATE_MS:
            self.back += self._parts.popleft()[1]
        return sum(part[1] for part in self._parts) >= units - 1e-6

    def take(self, units: float) -> float:
        """When they may be used, which is when the first may."""
        start_ms = self._parts[0][0] if self._parts else -math.inf
        self._used += units
        while self._parts and units > 0:
            begins, there = self._parts.popleft()
            if there > units:
                self._parts.appendleft((begins + units * self._each_ms, there - units))
            units -= there
        return start_ms

    def wish(self, wanted: list[float], now_ms: float) -> float:
        """How much to borrow for calls that want so much, in their order: what they need of a chunk, the first in any
        case, and no less than a chunk's time has needed lately. Nothing while the last one is still to come."""
        if self.begins_ms > now_ms:
            return 0.0
        need = 0.0
        for units in wanted:
            if need and need + units > self._chunk:
                break
            need += units
        lately = self._used * CHUNK_MS / max(CHUNK_MS, now_ms - self._since_ms)
        there = sum(part[1] for part in self._parts)
        return max(0.0, max(need, min(lately, self._chunk)) - there)

    def borrowed(self, units: float, begins_ms: float, now_ms: float) -> None:
        if units:
            self._parts.append((begins_ms, units))
            self.begins_ms = begins_ms
            self._used, self._since_ms = 0.0, now_ms
