"""A rate limit as the time at which the next call may start. Pure: the clock is the caller's.

One number holds the state, so that calls from several threads and event loops share a limit under one short lock.
"""

from __future__ import annotations

import math


class Rate:
    """``per_minute`` units a minute, of which a burst of a second's worth (one unit at least) may go at once."""

    def __init__(self, per_minute: float) -> None:
        self._each_s = 60.0 / per_minute
        self._burst_s = max(1.0, self._each_s)
        self._spent_until = -math.inf

    def reserve(self, units: float, now: float) -> float:
        """Take the units, and get the seconds to wait before they may be used."""
        start = max(self._spent_until, now - self._burst_s + self._each_s)
        self._spent_until = start + units * self._each_s
        return max(0.0, start - now)

    def settle(self, units: float) -> None:
        """Correct what was reserved by estimate; fewer units than that are a negative number."""
        self._spent_until += units * self._each_s
