"""One attempt as a core request to a pool: the way of runs that are not stored, and of single calls."""

from __future__ import annotations

from dspex_bus import Bus, subjects
from dspex_bus.claim import Claims
from dspex_bus.errors import DeadlineExceeded, DecodeError, PayloadTooLarge, Unavailable
from dspex_bus.wire import (
    ErrorInfo,
    StepFailed,
    StepOutcome,
    StepTimedOut,
    Task,
    alone,
    decode_outcome,
    encode,
    error_info,
)

from ..plan.operations import how_to_start

_MARGIN_S = 2.0
"""The worker enforces the timeout; this much later nobody is there to do so."""


async def ask(bus: Bus, pool: str, task: Task) -> StepOutcome:
    """The outcome, whatever happens: an absent or silent worker is a failure like any other."""
    subject = subjects.now(pool, task.handler)
    allowed_s = max(0.0, min(task.longest_ms, task.deadline_ms - bus.clock.now_ms()) / 1000)
    try:
        answer = await Claims(bus).request(subject, encode(task), timeout_s=allowed_s + _MARGIN_S)
        return decode_outcome(answer.data, subject=subject)
    except DeadlineExceeded:
        message = f"no worker of the pool {pool} answered for {task.handler} within {allowed_s:g} s"
        return StepTimedOut(error=ErrorInfo(code="step_timed_out", message=message, retryable=True))
    except Unavailable as error:
        if error.code != "no_responders":
            return StepFailed(error=error_info(error))
        message = f"the pool {pool} has no live worker for {task.handler}; start one: {how_to_start(pool)}"
        return StepFailed(error=ErrorInfo(code="no_workers", message=message, retryable=True))
    except (DecodeError, PayloadTooLarge) as error:
        if task.then and isinstance(error, PayloadTooLarge):
            return await ask(bus, pool, alone(task))
        return StepFailed(error=error_info(error))
