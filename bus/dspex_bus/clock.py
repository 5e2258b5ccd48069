"""The time by the clock that stamps what is stored: one for all who share a bus, whatever their own clocks say."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskStatus

from .errors import DspexError

if TYPE_CHECKING:
    from .bus import Bus

log = logging.getLogger(__name__)

_UNTOLD_S = 0.1


def _steady_ms() -> float:
    return time.monotonic() * 1000


def _wall_ms() -> float:
    return time.time_ns() / 1e6


class Clock:
    """Goes by the steady clock from what servers have said, and until one has, from this host's wall clock as it was in
    the beginning. So a jump of this host's clock is none of this one's; one of the server's is, once it is known."""

    def __init__(self, steady: Callable[[], float] = _steady_ms, wall: Callable[[], float] = _wall_ms) -> None:
        self.steady_ms = steady
        self.ahead_ms = wall() - steady()
        """Of the steady clock."""
        self.is_told = False

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return int(self.steady_ms() + self.ahead_ms)

    def left_ms(self, until_ms: float) -> float:
        """How long it is until then; for ever where no server has told the time yet."""
        return until_ms - self.now_ms() if self.is_told else math.inf

    def heard(self, time_ms: int) -> None:
        """Something has come that a server stamped with this: it is no earlier."""
        self.ahead_ms = max(self.ahead_ms, time_ms - self.steady_ms())

    def told(self, asked_ms: float, time_ms: float, answered_ms: float) -> None:
        """A server was asked for the time and said ``time_ms``, between these moments of the steady clock. Where what
        we go by cannot be right, the least that can be is taken: what is late does less harm than what is early."""
        if not time_ms - answered_ms <= self.ahead_ms <= time_ms + 1 - asked_ms:
            self.ahead_ms = time_ms - answered_ms
        self.is_told = True


async def keep_time(
    bus: Bus, stream: str, every_s: float, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Ask what time it is, and again for as long as this runs. It has started when that was asked once."""
    await _ask(bus, stream)
    task_status.started()
    while True:
        await anyio.sleep(every_s if bus.clock.is_told else _UNTOLD_S)
        await _ask(bus, stream)


async def _ask(bus: Bus, stream: str) -> None:
    try:
        await bus.stream_info(stream)
    except DspexError as error:
        log.debug("%s was not told the time: %s", bus.name, error)
