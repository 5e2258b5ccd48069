"""Direct calls: core request/reply to the pool's queue group, outside every stream."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import anyio

from dspex_bus import Message, Subscription, subjects
from dspex_bus.claim import Claims
from dspex_bus.errors import DspexError, PayloadTooLarge
from dspex_bus.wire import (
    ErrorInfo,
    StepCancelled,
    StepFailed,
    StepOutcome,
    Task,
    decode_task,
    encode_event,
    error_info,
)

from .attempt import Attempt
from .claims import Claims as Held
from .streams import token_subject
from .unrunnable import smaller

if TYPE_CHECKING:
    from .worker import Worker

logger = logging.getLogger("dspex.worker")


class DirectCalls:
    """One subscription a handler. Past the waiting room a call is refused as overloaded, which is retryable.
    ``leaving`` is the code of what could not be done before the worker left."""

    leaving = "unavailable"

    def __init__(self, worker: Worker, held: Held | None = None) -> None:
        self._worker = worker
        self._held = held or Held.nowhere()
        self._slots = asyncio.Semaphore(worker.config.slots)
        self._inside = 0
        self._running = 0
        self._claims = Claims(worker.bus)
        self._subscriptions: list[Subscription] = []

    @property
    def waiting(self) -> int:
        """Calls that have no slot yet."""
        return self._inside - self._running

    async def start(self) -> None:
        pool = self._worker.config.pool
        for info in self._worker.handlers.infos():
            subject = subjects.now(pool, info.name)
            self._subscriptions.append(await self._worker.bus.subscribe(subject, self._on_call, queue=pool))

    async def stop(self) -> None:
        async with anyio.create_task_group() as group:
            for subscription in self._subscriptions:
                group.start_soon(subscription.close)
        self._subscriptions.clear()

    async def _on_call(self, message: Message) -> None:
        config = self._worker.config
        if self._inside >= config.waiting + config.slots:
            error = ErrorInfo(
                code="overloaded",
                message=f"the worker {config.name} has {self._inside} calls already; try again in a second",
                retryable=True,
                details={"retry_after_s": 1},
            )
            await self._reply(message, StepFailed(error=error, worker=config.name, retry_after_ms=1000))
            return
        self._inside += 1
        self._worker.spawn(self._call(message))

    async def _call(self, message: Message) -> None:
        attempt: Attempt | None = None
        free = self._leave
        try:
            await self._slot(message)
            self._running += 1
            free = self._free
            outcome, attempt = await self._outcome(message)
            await self._reply(message, outcome)
        except asyncio.CancelledError:
            error = ErrorInfo(
                code=self.leaving,
                message=f"the worker {self._worker.config.name} had to leave before it was done",
                retryable=True,
            )
            await self._reply(message, StepFailed(error=error, worker=self._worker.config.name))
            raise
        finally:
            # The caller has its answer; the slot is not free before the handler's threads are.
            if attempt is None:
                free()
            else:
                attempt.when_idle(free)

    async def _slot(self, message: Message) -> None:
        """Wait for one. Should we die meanwhile, our supervisor answers."""
        if not self._slots.locked():
            await self._slots.acquire()
            return
        claim = self._held.answer(message.reply, _tokens(message))
        try:
            await self._slots.acquire()
        finally:
            self._held.remove(claim)

    def _leave(self) -> None:
        self._inside -= 1

    def _free(self) -> None:
        self._running -= 1
        self._slots.release()
        self._inside -= 1

    async def _outcome(self, message: Message) -> tuple[StepOutcome, Attempt | None]:
        try:
            data = await self._claims.unpack(message.subject, message.data, message.headers)
            task = decode_task(data, subject=message.subject)
        except DspexError as error:
            return StepFailed(error=error_info(error), worker=self._worker.config.name), None
        if not message.data:
            await self._claims.drop(message.subject, message.headers)
        claim = self._held.answer(message.reply, token_subject(task) if task.stream else "")
        try:
            return await self._run(task)
        finally:
            self._held.remove(claim)

    async def _run(self, task: Task) -> tuple[StepOutcome, Attempt | None]:
        outcome, attempt = await self._worker.execute(task)
        return outcome or StepCancelled(reason="the session was cancelled"), attempt

    async def _reply(self, message: Message, outcome: StepOutcome) -> None:
        if not message.reply:
            return
        try:
            data, headers = await self._claims.pack(message.reply, *encode_event(outcome, message.subject))
            await self._worker.bus.publish(message.reply, data, headers=headers)
        except PayloadTooLarge as refusal:
            await self._reply(message, smaller(outcome, refusal))
        except DspexError as error:
            logger.warning("a call on %s could not be answered: %s", message.subject, error)


def _tokens(message: Message) -> str:
    """Where the tokens of a call that waits are to go. A task that is kept elsewhere is not fetched before its time,
    and of its tokens nobody is told."""
    try:
        task = decode_task(message.data, subject=message.subject)
    except DspexError:
        return ""
    return token_subject(task) if task.stream else ""
