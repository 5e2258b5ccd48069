"""The step cache: an equal step's outputs, kept for as long as the step says, and made once where several want them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from dspex_bus.clock import Clock
from dspex_bus.errors import DspexError
from dspex_bus.wire import ErrorInfo, StepFailed, StepOutcome, StepSucceeded, StepTimedOut, Task, error_from, error_info

from ..cache import Cache, Made, key

_GRACE_S = 1.0
_outputs = msgspec.json.Decoder(dict[str, Any])

Run = Callable[[], Awaitable[StepOutcome | None]]
ProgramOf = Callable[[], Awaitable[str]]


class _Own(Exception):
    """An outcome that says nothing about equal steps: it ran out of time, or was cancelled."""

    def __init__(self, outcome: StepOutcome | None) -> None:
        self.outcome = outcome


class StepCache:
    """By pool, handler, constants, inputs and the digest of a stored program: pools may offer different handlers under
    one name, and a program's name means another after a promotion."""

    def __init__(self, cache: Cache, pool: str, worker: str, clock: Clock) -> None:
        self._clock = clock
        self._cache = cache
        self._pool = pool
        self._worker = worker

    async def outcome(self, task: Task, run: Run, program_of: ProgramOf) -> StepOutcome | None:
        """What ``run`` comes to, or the outputs of an equal step. One that failed fails for those who waited for it.
        ``program_of`` gives the digest of the stored program that the step means now, '' where it means none."""
        try:
            program = await program_of()
        except DspexError:  # what is kept may be another's: better not to look
            return await run()
        own: list[StepOutcome] = []

        async def make() -> Made:
            outcome = await run()
            if isinstance(outcome, StepSucceeded):
                own.append(outcome)
                # A promotion in between: what was made is another program's.
                return Made(msgspec.json.encode(outcome.outputs), keep=outcome.program in ("", program))
            if isinstance(outcome, StepFailed):
                own.append(outcome)
                raise error_from(outcome.error)
            raise _Own(outcome)

        started = self._clock.now_ms()
        ttl_s = max(1.0, task.cache_ms / 1000)
        left_s = min(task.timeout_ms, max(0, self._clock.left_ms(task.deadline_ms))) / 1000
        try:
            async with asyncio.timeout(left_s + _GRACE_S):
                found = await self._cache.fetch(step_key(self._pool, task, program), make, ttl_s=ttl_s)
        except _Own as ended:
            return ended.outcome
        except DspexError as error:
            return own[0] if own else StepFailed(error=error_info(error), worker=self._worker, started_ms=started)
        except TimeoutError:
            late = ErrorInfo(
                code="step_timed_out", message="an equal step took longer than this one's time", retryable=True
            )
            return StepTimedOut(error=late, worker=self._worker, started_ms=started)
        if own:
            return own[0]
        kept = _outputs.decode(found.value)
        return StepSucceeded(outputs=kept, cached=True, worker=self._worker, started_ms=started, program=program)


def step_key(pool: str, task: Task, program: str = "") -> str:
    return key("step", pool, task.handler, task.implementation, task.options, task.inputs, program)
