"""Whether every cancel has been heard of: a worker knows of those that are said while it listens, and of no others."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import anyio

from dspex_bus import Bus, Delivery, subjects
from dspex_bus.claim import Claims
from dspex_bus.errors import DecodeError, DspexError, NotFound
from dspex_bus.streams import EVENTS, TASKS
from dspex_bus.wire import RESENT, SENT, StepOutcome, Task, decode_outcome

_LOOK_S = 0.1
_LOOKS = 3
_DEAF_S = 0.3
"""Of a process that did not run for so long, something may have been said that it has not read yet."""


_UNDER_WAY_MS = 400
"""A router that was there when it sent a task is taken for dead half a second later at the soonest."""


def may_be_over(delivery: Delivery) -> bool:
    """Whether what a task is about may have been decided before it was stored: it says so, or it was under way for so
    long that another router may have taken its session over."""
    headers = delivery.headers or {}
    sent = headers.get(SENT, "")
    return RESENT in headers or (sent.isdecimal() and delivery.time_ms - int(sent) > _UNDER_WAY_MS)


class Hearing:
    """Tasks that were stored before we listened are in doubt, whenever they come; and any that comes before we have
    caught up with what was said while this process was stopped, its loop blocked, or its connection away. What is in
    doubt is looked up in the journal."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._before: float = math.inf
        self._looked = self._broken = time.monotonic()
        bus.on_lost(self._break)

    async def keep(self) -> None:
        """Run for as long as tasks are taken, from when cancels are listened for."""
        while True:
            await self._catch_up()
            self._looked = time.monotonic()
            await anyio.sleep(_LOOK_S)
            if self._is_deaf(time.monotonic()):
                self._break()

    def doubts(self, delivery: Delivery) -> bool:
        return delivery.sequence <= self._before or self._is_deaf(time.monotonic())

    def was_broken(self, since: float, now: float) -> bool:
        """Whether there may be something to look up of a task that was looked at then. By the monotonic clock."""
        return self._broken > since or self._is_deaf(now)

    def _is_deaf(self, now: float) -> bool:
        return now - self._looked > _DEAF_S

    def _break(self) -> None:
        self._before, self._broken = math.inf, time.monotonic()

    async def _catch_up(self) -> None:
        """The answer comes behind all that was said before. While the connection is away there is none."""
        if self._before != math.inf:
            return
        broken = self._broken
        try:
            before = (await self._bus.stream_info(TASKS))["last_sequence"]
        except NotFound:
            before = 0
        except DspexError:
            return
        if broken == self._broken:
            self._before = before


@dataclass(frozen=True)
class Decided:
    """``outcome`` is None where the attempt has none, but its session an end, or where it cannot be read any more."""

    outcome: StepOutcome | None


async def decided(bus: Bus, task: Task, pool: str) -> Decided | None:
    """What the journal says against running the attempt; None where nothing does. An answer that took long is asked
    for again: it may have lain there while this process was stopped."""
    found = None
    for _ in range(_LOOKS):
        asked = time.monotonic()
        found = await _decided(bus, task, pool)
        if found is not None or time.monotonic() - asked < _DEAF_S:
            break
    return found


async def _decided(bus: Bus, task: Task, pool: str) -> Decided | None:
    slot = subjects.outcome(task.partition, task.session, pool, task.node, task.attempt)
    if (filled := await bus.last(EVENTS, slot)) is not None:
        try:
            data = await Claims(bus).unpack(slot, filled.data, filled.headers)
            return Decided(decode_outcome(data, subject=slot))
        except DecodeError:
            return Decided(None)
    if await bus.last(EVENTS, subjects.end(task.partition, task.session)) is not None:
        return Decided(None)
    return None
