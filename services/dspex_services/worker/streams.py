"""The token streams of the attempts that are to be watched."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from dspex_bus import Bus, subjects
from dspex_bus.wire import StepOutcome, Task

from ..streaming import Tokens

Place = tuple[str, str, int]


class Streams:
    """Each is opened when its attempt begins, and has its last word however that ends. All of this is nothing for a
    task that nobody asked to stream."""

    def __init__(self, bus: Bus, worker: str, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._bus = bus
        self._worker = worker
        self._spawn = spawn
        self._open: dict[Place, Tokens] = {}

    def of(self, task: Task) -> Tokens | None:
        return self._open.get(_place(task)) if task.stream else None

    def open(self, task: Task) -> None:
        if task.stream:
            self._open[_place(task)] = Tokens(self._bus, token_subject(task), self._worker, self._spawn)

    async def end(self, task: Task, outcome: StepOutcome | None) -> None:
        """None: it was cancelled."""
        tokens = self._open.pop(_place(task), None) if task.stream else None
        if tokens is not None:
            await tokens.end(outcome)

    def interrupt(self, task: Task) -> None:
        """The worker leaves before the attempt has ended."""
        tokens = self._open.pop(_place(task), None) if task.stream else None
        if tokens is not None:
            tokens.close("interrupted")

    async def settle(self, task: Task, outcome: StepOutcome | None) -> None:
        """For an attempt that is not run here: whoever had it may not have lived to say the last word."""
        self.open(task)
        await self.end(task, outcome)


def _place(task: Task) -> Place:
    return task.session, task.node, task.attempt


def token_subject(task: Task) -> str:
    if task.watched is None:
        return subjects.token_stream(task.session, task.node, task.attempt)
    return subjects.token_stream(task.watched.session, f"{task.watched.node}-{task.node}", task.attempt)
