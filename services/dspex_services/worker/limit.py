"""What ends an attempt before its handler does."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Limit:
    """Ends what runs within it once it is told to, with a TimeoutError: ``asyncio.timeout(None)`` at a fraction of its
    cost. ``told_at`` is when it was told, by the loop's clock; ``ended`` says that it has begun to end it."""

    __slots__ = ("_before", "_task", "ended", "told_at")

    def __init__(self) -> None:
        self.told_at: float | None = None
        self.ended = False
        self._task: asyncio.Task[object] | None = None

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._before = self._task.cancelling()
        return self

    def end(self) -> None:
        """From the next turn of the loop on."""
        if self.told_at is None:
            loop = asyncio.get_running_loop()
            self.told_at = loop.time()
            loop.call_soon(self._end)

    def _end(self) -> None:
        if self._task is not None:
            self.ended = True
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        assert task is not None
        if self.ended and task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error
