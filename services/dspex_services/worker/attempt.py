"""One attempt: from a task to its outcome, whatever the handler does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from dspex_bus.clock import Clock
from dspex_bus.wire import ErrorInfo, StepFailed, StepOutcome, StepSucceeded, StepTimedOut, Task

from ..handlers import Handler, Step
from .failing import described, retry_after_ms
from .limit import Limit
from .threads import Returned, Threads


class Abandoned(Exception):
    """The session was cancelled while the attempt ran: there is no outcome to record, the router has recorded one."""


class Attempt:
    """Runs a handler under the task's timeout. ``place`` is the step it is at, the task's own or one that travels
    along; ``so_far`` is there once the task's own has succeeded."""

    def __init__(self, task: Task, handler: Handler, worker: str, threads: Threads, clock: Clock) -> None:
        self.task = task
        self.clock = clock
        self.started_ms = clock.now_ms()
        self.began = time.monotonic()
        self._handler = handler
        self._worker = worker
        self._threads = threads
        self._running: set[asyncio.Future[Returned]] = set()
        self._idle: list[Callable[[], None]] = []
        self._limit: Limit | None = None
        self._ends_at = 0.0
        self._abandoned = False
        self.place = (task.node, task.attempt)
        self.so_far: Callable[[], StepSucceeded] | None = None

    @property
    def takes_step(self) -> bool:
        return self._handler.takes_step

    def when_idle(self, then: Callable[[], None]) -> None:
        """Call it when no thread of the handler's runs any more: one may go on long after the outcome."""
        if not self._running:
            then()
            return
        self._idle.append(then)

    @property
    def overdue_s(self) -> float:
        """For how long the handler has not obeyed its timeout."""
        if self._limit is None or self._limit.told_at is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._limit.told_at

    def abandon(self) -> None:
        """End it at once, with no outcome."""
        self._abandoned = True
        if self._limit is not None:
            self._limit.end()

    def end_if_late(self, now: float) -> None:
        """End it if its time is up by the monotonic clock."""
        if self._limit is not None and now >= self._ends_at:
            self._limit.end()

    async def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        thread = self._threads.start(function, *arguments)
        self._running.add(thread)
        thread.add_done_callback(self._thread_ended)
        return (await asyncio.shield(thread)).unwrap()

    def _thread_ended(self, thread: asyncio.Future[Returned]) -> None:
        self._running.discard(thread)
        while self._idle and not self._running:
            self._idle.pop()()

    async def run(self, step: Step | None) -> StepOutcome:
        """The outcome; a handler that takes no ``step`` needs none. Raises Abandoned after :meth:`abandon`, and when
        the worker cancels it CancelledError."""
        started, clock = self.started_ms, time.perf_counter()
        left_s, limit_s = self.clock.left_ms(self.task.deadline_ms) / 1000, self.task.timeout_ms / 1000
        if left_s > 0 and not self._abandoned:
            try:
                arguments = self._handler.arguments(self.task.inputs, self.task.options, step)
                self._ends_at = time.monotonic() + min(left_s, limit_s)
                # Whoever watches us ends it: a timer of its own costs more than most handlers.
                with Limit() as self._limit:
                    returned = await self._returned(arguments)
                outputs, _ = self._handler.outputs(returned)
            except BaseException as error:
                if _is_ours(error):
                    raise
                if self._limit is None or not self._limit.ended:
                    return self._failed(error, step, started, clock)
            else:
                return StepSucceeded(
                    outputs=outputs,
                    worker=self._worker,
                    started_ms=started,
                    duration_us=_microseconds(clock),
                    usage=None if step is None else step.usage,
                    program="" if step is None else step.program,
                )
        if self._abandoned:
            raise Abandoned
        return StepTimedOut(
            error=timeout_error(self.task) if limit_s <= left_s else _past_deadline(),
            worker=self._worker,
            started_ms=started,
            duration_us=_microseconds(clock),
            usage=None if step is None else step.usage,
        )

    async def also(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run what belongs to it after its own handler, for as long as :meth:`turn_to` allows. What that fails with is
        dropped. Raises as :meth:`run` does."""
        try:
            with Limit() as self._limit:
                await work()
        except BaseException as error:
            if _is_ours(error):
                raise
        if self._abandoned:
            raise Abandoned

    def turn_to(self, node: str, ends_at: float) -> None:
        """Go on with another step, until then by the monotonic clock."""
        self.place, self._ends_at = (node, 1), ends_at

    def given_up(self) -> StepOutcome:
        """The outcome of an attempt that does not obey its timeout."""
        if self.so_far is not None:
            return self.so_far()
        return StepTimedOut(error=timeout_error(self.task), worker=self._worker)

    async def _returned(self, arguments: tuple[Any, ...]) -> Any:
        if self._handler.asynchronous:
            return await self._handler.function(*arguments)
        return await self.in_thread(self._handler.function, *arguments)

    def _failed(self, error: BaseException, step: Step | None, started: int, clock: float) -> StepFailed:
        info = described(error, self.task.handler)
        return StepFailed(
            error=info,
            worker=self._worker,
            started_ms=started,
            duration_us=_microseconds(clock),
            retry_after_ms=retry_after_ms(info),
            usage=None if step is None else step.usage,
        )


def timeout_error(task: Task) -> ErrorInfo:
    message = f"{task.handler} took longer than its timeout of {task.timeout_ms / 1000:g} s"
    return ErrorInfo(code="step_timed_out", message=message, retryable=True)


def _past_deadline() -> ErrorInfo:
    return ErrorInfo(code="deadline_exceeded", message="the run's deadline passed")


def _is_ours(error: BaseException) -> bool:
    """Whether it is the worker that cancels us; a handler may well raise CancelledError of its own."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _microseconds(since: float) -> int:
    return int((time.perf_counter() - since) * 1e6)
