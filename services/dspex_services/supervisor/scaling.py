"""How many workers a pool wants, by what waits and what is busy. Pure: no clock, no bus."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..worker.spec import PoolSpec


@dataclass(frozen=True, slots=True)
class Load:
    """Of the whole pool, wherever its workers are. ``elsewhere`` are slots of workers that are not ours; ``starting``
    says that one of ours is not ready yet."""

    queued: int
    oldest_wait_s: float
    busy: int
    elsewhere: int = 0
    starting: bool = False


class Scaling:
    """Between ``size`` and ``max_size``: more as soon as a task has waited for ``scale_after_s``, at most twice as many
    at a time; fewer when for ``idle_s`` fewer would have done."""

    def __init__(self, spec: PoolSpec) -> None:
        self.wanted = spec.size
        self._spec = spec
        self._least = spec.size
        self._most = max(spec.size, spec.max_size)
        self._idle_since: float | None = None
        self._needed = 0

    @property
    def fixed(self) -> bool:
        return self._least == self._most

    def look(self, load: Load, now: float) -> None:
        ours = max(0, load.busy + load.queued - load.elsewhere)
        needed = math.ceil(ours / self._spec.slots)
        if load.queued and load.oldest_wait_s >= self._spec.scale_after_s:
            self._idle_since = None
            # What waits although there seem to be free slots waits for something: one more may do it.
            if not load.starting:
                self.wanted = min(self._most, 2 * self.wanted, max(needed, self.wanted + 1))
        else:
            self._shrink(min(needed, self._most), now)

    def _shrink(self, needed: int, now: float) -> None:
        if self._idle_since is None or needed >= self.wanted:
            self._idle_since, self._needed = now, needed
            return
        self._needed = max(self._needed, needed)
        if now - self._idle_since >= self._spec.idle_s:
            self.wanted = max(self._least, min(self.wanted, self._needed))
            self._idle_since = None
