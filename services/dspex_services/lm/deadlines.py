"""Time limits of many calls by one timer. A timer each, as ``asyncio.timeout`` has it, is a fifth of what a call costs
above HTTP."""

from __future__ import annotations

import asyncio
import math
import time
from types import TracebackType


class Deadlines:
    """Those of one event loop. The timer is set for the first to come when it was set; what has ended before its
    deadline, as nearly all has, is only taken out of the list."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._open: dict[Until, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf

    def until(self, deadline: float) -> Until:
        """A context whose task is interrupted at ``deadline``, by ``time.monotonic``, and that raises
        TimeoutError then."""
        return Until(self, deadline)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def add(self, until: Until) -> None:
        self._open[until] = None
        if until.deadline < self._due:
            self._set(until.deadline)

    def remove(self, until: Until) -> None:
        self._open.pop(until, None)

    def _set(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = None if due == math.inf else self._loop.call_later(due - time.monotonic(), self._look)

    def _look(self) -> None:
        for until in [until for until in self._open if until.deadline <= self._due]:
            self.remove(until)
            until.expire()
        self._set(min((until.deadline for until in self._open), default=math.inf))


class Until:
    """Like ``asyncio.Timeout``: a cancellation from elsewhere stays one."""

    __slots__ = ("_all", "_before", "_expired", "_task", "deadline")

    def __init__(self, deadlines: Deadlines, deadline: float) -> None:
        self.deadline = deadline
        self._all = deadlines
        self._expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._before = task.cancelling()
        self._all.add(self)

    def expire(self) -> None:
        self._expired = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._all.remove(self)
        if self._expired and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error
