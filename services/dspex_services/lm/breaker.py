"""A circuit breaker: a model's server that keeps failing is left alone for a while. Pure: the clock is the caller's.

closed ──failures in a row reach the limit──▶ open ──the pause is over──▶ half open: one call goes through
  ▲                                                                          │ it succeeds        │ it fails
  └──────────────────────────────────────────────────────────────────────────┘      open again, twice as long
"""

from __future__ import annotations

_LONGEST_S = 60.0


class Breaker:
    """``failures`` in a row open it for ``pause_s`` seconds, each time twice as long, a minute at most."""

    def __init__(self, failures: int, pause_s: float) -> None:
        self._limit = failures
        self._pause_s = pause_s
        self._failed = 0
        self._opened = 0
        self._until = 0.0
        self._probing = False

    @property
    def calm(self) -> bool:
        """Whether nothing has failed since it last succeeded: no call need ask it, or tell it that it went well."""
        return not (self._failed or self._opened)

    def refuses(self, now: float) -> float:
        """Seconds to leave the server alone; 0 lets the call through, as the one that probes where it was open."""
        if not self._opened:
            return 0.0
        if now < self._until:
            return self._until - now
        if self._probing:
            return self._pause_s
        self._probing = True
        return 0.0

    def succeeded(self) -> None:
        self._failed = self._opened = 0
        self._probing = False

    def failed(self, now: float) -> None:
        self._failed += 1
        if self._probing or (not self._opened and self._failed >= self._limit):
            pause = min(self._pause_s * 2.0**self._opened, max(_LONGEST_S, self._pause_s))
            self._opened += 1
            self._until = now + pause
            self._probing = False

    def gave_up(self) -> None:
        """The call ended without telling anything of the server: another may probe."""
        self._probing = False
