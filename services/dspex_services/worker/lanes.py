"""A pool's lanes, one for each priority, shared fairly among the worker's slots: the urgent first.

A lane is a queue of its own on the server, so what waits in one cannot be seen from another. A worker asks every lane
for as many tasks as it has free slots; more may come than it has slots for, and wait in its hands, the urgent first.
To keep that rare and short:

- while all slots are taken for more than a moment, only the normal lane's old requests stand;
- the lowest lane is asked only once slots have stayed free for a moment;
- a task that waits in our hands is started only once the lanes above its own have had time to answer.

Where only the normal lane is in use, none of this costs a message per task.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from dspex_bus import Consumer
from dspex_bus.subjects import DEFAULT_LANE

BUSY_S = 0.05
"""All slots taken for that long: the other lanes' tasks shall go to somebody else."""

IDLE_S = 0.005
"""Slots free for that long: there is nothing in the lanes above the lowest."""

ANSWER_S = 0.003
"""What lanes above need to answer, when a slot is free for a task that waits in our hands."""

T = TypeVar("T")


@dataclass(eq=False)
class Lane:
    """``standing`` counts the tasks that are asked for and have not come."""

    name: str
    consumer: Consumer
    standing: int = 0


class Lanes(Generic[T]):
    """``start`` runs a task in a slot, which is given back with :meth:`free`. ``spawn`` runs a coroutine of ours."""

    def __init__(
        self, slots: int, start: Callable[[T], None], spawn: Callable[[Coroutine[Any, Any, None]], None]
    ) -> None:
        self._slots = slots
        self._start = start
        self._spawn = spawn
        self._lanes: list[Lane] = []
        self._places: dict[str, int] = {}
        self._running = 0
        self._waiting: list[tuple[int, int, T]] = []
        self._order = itertools.count()
        self._stopped = False
        self._busy_since = self._idle_since = self._may_start_at = 0.0
        self._look_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    async def open(self, consumers: Mapping[str, Consumer]) -> None:
        """Lanes by name, the most urgent first."""
        self._lanes = [Lane(name, consumer) for name, consumer in consumers.items()]
        self._places = {name: place for place, name in enumerate(consumers)}
        self._idle_since = _now()
        await self._ask()
        self._look_in_time()

    async def stop(self) -> None:
        """Want nothing any more. What waits in our hands is started as slots become free."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for lane in self._lanes:
            await lane.consumer.finish()
        self._begin_waiting()

    async def close(self) -> None:
        for lane in self._lanes:
            await lane.consumer.close()

    def came(self, name: str, item: T) -> None:
        """A task has come on a lane: it is started, or waits in our hands."""
        place = self._asked_for(name)
        if self._running < self._slots and not self._waiting:
            self._begin(item)
        else:
            heapq.heappush(self._waiting, (place, next(self._order), item))
            self._begin_waiting()
        self._look_in_time()

    async def dropped(self, name: str) -> None:
        """A task has come on a lane that needs no slot."""
        self._asked_for(name)
        await self._ask()

    async def free(self, count: int) -> None:
        """So many slots are free again."""
        now = _now()
        if self._running == self._slots:
            self._idle_since = now
        self._running -= count
        if self._stopped:
            self._begin_waiting()
            return
        self._may_start_at = now + ANSWER_S
        self._begin_waiting()
        await self._ask()
        self._look_in_time()

    def _asked_for(self, name: str) -> int:
        place = self._places[name]
        lane = self._lanes[place]
        if lane.standing > 0:
            lane.standing -= 1
        return place

    def _begin(self, item: T) -> None:
        self._running += 1
        if self._running == self._slots:
            self._busy_since = _now()
        self._start(item)

    def _begin_waiting(self) -> None:
        """The most urgent first; below the most urgent lane, only when the lanes above have had time to answer."""
        while self._waiting and self._running < self._slots:
            if self._waiting[0][0] > 0 and _now() < self._may_start_at and not self._stopped:
                return
            self._begin(heapq.heappop(self._waiting)[2])

    async def _ask(self) -> None:
        """Of each lane as many tasks as there are slots for. While some wait in our hands, only the lanes above theirs
        are asked."""
        free = self._slots - self._running
        most = self._waiting[0][0] if self._waiting else len(self._lanes)
        for place, lane in enumerate(self._lanes[:most]):
            if place > 0 and place == len(self._lanes) - 1 and _now() < self._idle_since + IDLE_S:
                return
            wanted = free - lane.standing
            if wanted > 0:
                lane.standing += wanted
                await lane.consumer.want(wanted)

    async def _withdraw(self) -> None:
        for lane in self._lanes:
            if lane.name != DEFAULT_LANE and lane.standing:
                lane.standing = 0
                await lane.consumer.pause()

    def _look_in_time(self) -> None:
        """Set the one timer to the next moment at which something is to be done without being told."""
        if len(self._lanes) < 2:
            return
        look_at = self._next_look()
        if look_at < self._look_at:
            if self._timer is not None:
                self._timer.cancel()
            self._look_at = look_at
            self._timer = asyncio.get_running_loop().call_at(look_at, self._look)

    def _next_look(self) -> float:
        if self._running < self._slots:
            if self._waiting:
                return self._may_start_at
            lowest = self._lanes[-1]
            return self._idle_since + IDLE_S if lowest.standing < self._slots - self._running else math.inf
        others = any(lane.standing for lane in self._lanes if lane.name != DEFAULT_LANE)
        return self._busy_since + BUSY_S if others else math.inf

    def _look(self) -> None:
        self._timer, self._look_at = None, math.inf
        if not self._stopped:
            self._spawn(self._looked())

    async def _looked(self) -> None:
        self._begin_waiting()
        if self._running == self._slots:
            if _now() >= self._busy_since + BUSY_S:
                await self._withdraw()
        else:
            await self._ask()
        self._look_in_time()


def _now() -> float:
    return asyncio.get_running_loop().time()
