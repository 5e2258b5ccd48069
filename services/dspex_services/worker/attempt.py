"""One attempt: from a task to its outcome, whatever the handler does."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dspex_bus.errors import DspexError
from dspex_bus.wire import ErrorInfo, StepFailed, StepOutcome, StepSucceeded, StepTimedOut, Task, error_info

from ..handlers import Handler, Step

logger = logging.getLogger("dspex.worker")


class Abandoned(Exception):
    """The session was cancelled while the attempt ran: there is no outcome to record, the router has recorded one."""


class Attempt:
    """Runs a handler under the task's timeout."""

    def __init__(self, task: Task, handler: Handler, step: Step, worker: str) -> None:
        self.task = task
        self._handler = handler
        self._step = step
        self._worker = worker
        self._limit: asyncio.Timeout | None = None
        self._abandoned = False

    @property
    def thread(self) -> asyncio.Future[Any] | None:
        """A blocking handler's, which may go on long after the outcome: a thread cannot be stopped, only no longer
        waited for."""
        return self._step.thread

    def abandon(self) -> None:
        """End it at once, with no outcome."""
        self._abandoned = True
        if self._limit is not None:
            self._limit.reschedule(0)

    async def run(self, threads: ThreadPoolExecutor) -> StepOutcome:
        """The outcome. Raises Abandoned after :meth:`abandon`."""
        started, clock = int(time.time() * 1000), time.perf_counter()
        timeout_s, overrun = self._allowed()
        try:
            arguments = self._handler.arguments(self._step)
            async with asyncio.timeout(0 if self._abandoned else timeout_s) as self._limit:
                returned = await self._returned(threads, arguments)
            outputs = self._handler.outputs(returned)
        except Exception as error:
            if self._limit is None or not self._limit.expired():
                return self._failed(error, started, clock)
            if self._abandoned:
                raise Abandoned from None
            took = _microseconds(clock)
            return StepTimedOut(error=overrun, worker=self._worker, started_ms=started, duration_us=took)
        return StepSucceeded(
            outputs=outputs,
            worker=self._worker,
            started_ms=started,
            duration_us=_microseconds(clock),
            usage=self._step.usage,
            program=self._step.program,
        )

    async def _returned(self, threads: ThreadPoolExecutor, arguments: tuple[Any, ...]) -> Any:
        if self._handler.asynchronous:
            return await self._handler.function(*arguments)
        thread = self._step.thread = _in_thread(threads, self._handler.function, arguments)
        return await asyncio.shield(thread)

    def _allowed(self) -> tuple[float, ErrorInfo]:
        """Seconds the handler may take, none where the deadline is past, and the error if it takes longer."""
        left_ms = self.task.deadline_ms - time.time() * 1000
        if left_ms < self.task.timeout_ms:
            return max(0.0, left_ms / 1000), ErrorInfo(code="deadline_exceeded", message="the run's deadline passed")
        message = f"{self.task.handler} took longer than its timeout of {self.task.timeout_ms / 1000:g} s"
        return self.task.timeout_ms / 1000, ErrorInfo(code="step_timed_out", message=message, retryable=True)

    def _failed(self, error: BaseException, started: int, clock: float) -> StepFailed:
        info = _described(error, self.task.handler)
        retry_after = info.details.get("retry_after_s", 0)
        return StepFailed(
            error=info,
            worker=self._worker,
            started_ms=started,
            duration_us=_microseconds(clock),
            retry_after_ms=int(retry_after * 1000) if isinstance(retry_after, int | float) else 0,
            usage=self._step.usage,
        )


def _in_thread(
    threads: ThreadPoolExecutor, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> asyncio.Future[Any]:
    context = contextvars.copy_context()
    thread = asyncio.get_running_loop().run_in_executor(threads, lambda: context.run(function, *arguments))
    # Once nobody waits for it, nobody else would look at what it raised.
    thread.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return thread


def _described(error: BaseException, handler: str) -> ErrorInfo:
    """Our errors as they are; anything else a handler raised is ``handler_error`` with its type, text and last line."""
    if isinstance(error, DspexError):
        return error_info(error)
    logger.error("the handler %s raised", handler, exc_info=error)
    place = traceback.extract_tb(error.__traceback__)
    details = {"type": type(error).__name__}
    if place:
        details["at"] = f"{place[-1].name}, line {place[-1].lineno}"
    return ErrorInfo(code="handler_error", message=f"{handler}: {type(error).__name__}: {error}", details=details)


def _microseconds(since: float) -> int:
    return int((time.perf_counter() - since) * 1e6)
