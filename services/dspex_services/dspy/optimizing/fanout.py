"""Calls to a pool from an optimizer's threads: to whichever worker is free, and once more where a worker is lost.

A call that was sent again costs nothing twice: the model's replies are shared, and whoever asks for one that is on its
way waits for it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from dspex_bus import Message, Subscription, subjects
from dspex_bus.claim import Claims
from dspex_bus.errors import DeadlineExceeded, DecodeError, Unavailable
from dspex_bus.wire import (
    StepCancelled,
    StepFailed,
    StepOutcome,
    StepSucceeded,
    Task,
    Usage,
    WorkerPresence,
    decode,
    decode_outcome,
    encode,
)

from ...budgets import together
from ...errors import StepError
from ...handlers import Step

_SILENT_S = 4.0
"""A worker that says nothing for that long is lost."""
_CALL_S = 600.0
_TRIES = 4
_NOBODY_S = 120.0
"""For how long a pool without a worker is waited for."""


class Fanout:
    """``async with Fanout(step, "dspy") as pool:`` then ``await pool.call("dspy.Forward", request)``, on the event
    loop. ``slots`` is how many calls the pool runs at once."""

    def __init__(self, step: Step, pool: str) -> None:
        self._step = step
        self._pool = pool
        self._workers: dict[str, tuple[float, int]] = {}
        self._lost = asyncio.Event()
        self._subscription: Subscription | None = None
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Fanout:
        self._subscription = await self._step.bus.subscribe(subjects.PRESENCE, self._on_presence)
        await self._step.bus.publish(subjects.ROLL_CALL)
        self._watching = asyncio.create_task(self._watch(), name=f"workers of {self._pool}")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._subscription is not None:
            await self._subscription.close()

    async def slots(self, within_s: float = 1.5) -> int:
        """Of the workers that have announced themselves, at the latest after that time; at least 1."""
        until = time.monotonic() + within_s
        while not self._workers and time.monotonic() < until:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.1)  # the others answer the same roll call
        return max(1, sum(slots for _, slots in self._workers.values()))

    async def call(
        self, handler: str, inputs: dict[str, Any], spent: Usage, keep_s: float = 0.0
    ) -> tuple[dict[str, Any], Usage | None]:
        """The outputs, and what they cost. ``spent`` is what the job has used of its run's budget; equal calls within
        ``keep_s`` are one. Raises StepError as the handler did, after trying again where that may help."""
        for attempt in range(1, _TRIES + 1):
            outcome = await self._outcome(self._task(handler, inputs, spent, keep_s))
            match outcome:
                case StepSucceeded():
                    return outcome.outputs, outcome.usage
                case StepFailed() if outcome.error.retryable and attempt < _TRIES:
                    await asyncio.sleep(max(outcome.retry_after_ms / 1000, 0.25 * 2**attempt))
                case StepCancelled():
                    raise StepError(f"{handler} was cancelled", code="cancelled")
                case _:
                    error = outcome.error
                    raise StepError(error.message, code=error.code, retryable=error.retryable, details=error.details)
        raise AssertionError("the last try returns or raises")

    async def _outcome(self, task: Task) -> StepOutcome:
        """The first answer to the call, or to one that was made after a worker was lost."""
        calls = {asyncio.create_task(self._asked(task))}
        try:
            while True:
                lost = asyncio.create_task(self._lost.wait())
                try:
                    await asyncio.wait({*calls, lost}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    lost.cancel()
                for call in calls:
                    if call.done():
                        return call.result()
                calls.add(asyncio.create_task(self._asked(task)))
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    async def _asked(self, task: Task) -> StepOutcome:
        subject, until = subjects.now(self._pool, task.handler), time.monotonic() + _NOBODY_S
        while True:
            try:
                answer = await Claims(self._step.bus).request(subject, encode(task), timeout_s=_CALL_S + 5)
                return decode_outcome(answer.data, subject=subject)
            except DeadlineExceeded as error:
                raise StepError(f"{task.handler} was not answered", code="step_timed_out", retryable=True) from error
            except Unavailable as error:
                if time.monotonic() > until:
                    raise StepError(
                        f"the pool {self._pool!r} has had no live worker for {_NOBODY_S:g} s; start one: dspex pool "
                        f"{self._pool}",
                        code="no_workers",
                        retryable=True,
                    ) from error
                await asyncio.sleep(0.5)

    def _task(self, handler: str, inputs: dict[str, Any], spent: Usage, keep_s: float) -> Task:
        budget = self._step.budget
        return Task(
            budget=budget,
            used=together(self._step.used, spent) if budget else None,
            tenant=self._step.tenant,
            session=self._step.session,
            node=self._step.node,
            attempt=self._step.attempt,
            partition=0,
            handler=handler,
            implementation="dspy",
            inputs=inputs,
            cache_ms=int(keep_s * 1000),
            timeout_ms=int(_CALL_S * 1000),
            deadline_ms=int((time.time() + _CALL_S) * 1000),
        )

    async def _on_presence(self, message: Message) -> None:
        try:
            said = decode(WorkerPresence, message.data, subject=message.subject)
        except DecodeError:
            return
        if said.pool != self._pool:
            return
        if said.state == "leaving":
            self._forget(said.worker)
        elif said.state == "ready":
            self._workers[said.worker] = (time.monotonic(), said.slots)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_SILENT_S / 8)
            now = time.monotonic()
            for worker in [name for name, (seen, _) in self._workers.items() if now - seen > _SILENT_S]:
                self._forget(worker)

    def _forget(self, worker: str) -> None:
        if self._workers.pop(worker, None) is not None:
            self._lost.set()
            self._lost = asyncio.Event()
