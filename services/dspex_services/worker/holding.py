"""What handlers keep in a worker's memory for a session: a cache, that any other worker can make anew."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

MOST_HELD = 512
_IDLE_S = 3600.0

Place = tuple[str, str]


class Held:
    """By session and key, the most recently used; what was not used for an hour goes."""

    def __init__(self, most: int = MOST_HELD, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._values: OrderedDict[Place, tuple[float, Any]] = OrderedDict()
        self._making: dict[Place, asyncio.Lock] = {}

    def __len__(self) -> int:
        return len(self._values)

    async def get(self, session: str, key: str, make: Callable[[], Awaitable[Any]]) -> Any:
        """What is held, else what ``make`` makes, which then is. Of several who want it one makes it."""
        place = (session, key)
        if place in self._values:
            return self._use(place)
        lock = self._making.setdefault(place, asyncio.Lock())
        try:
            async with lock:
                if place not in self._values:
                    self._values[place] = (self._clock(), await make())
                return self._use(place)
        finally:
            if not lock.locked():
                self._making.pop(place, None)

    def _use(self, place: Place) -> Any:
        now, value = self._clock(), self._values[place][1]
        self._values[place] = (now, value)
        self._values.move_to_end(place)
        while len(self._values) > self._most or now - next(iter(self._values.values()))[0] > _IDLE_S:
            self._values.popitem(last=False)
        return value
