"""``call``: one operation, placed by the execution router, asked for and answered."""

from __future__ import annotations

import secrets

import anyio

from dspex_bus import Bus
from dspex_bus.errors import DeadlineExceeded, NotFound, NoWorkers
from dspex_bus.wire import (
    CallReply,
    CallRequest,
    StepCancelled,
    StepFailed,
    StepLost,
    StepOutcome,
    StepSucceeded,
    StepTimedOut,
    Task,
    error_from,
)

from ..plan import Choice, choose
from .asking import ask
from .config import RouterConfig
from .presence import Presence


class Calling:
    def __init__(self, bus: Bus, config: RouterConfig, presence: Presence) -> None:
        self._bus = bus
        self._config = config
        self._presence = presence

    async def call(self, operation: str, request: CallRequest) -> CallReply:
        """The operation's outputs, or its error raised."""
        choice = await self._placed(operation, request)
        timeout_ms = int((request.timeout_s or self._config.call_timeout_s) * 1000)
        task = Task(
            session=f"call-{secrets.token_hex(8)}",
            node="0",
            attempt=1,
            partition=0,
            handler=choice.handler,
            implementation=choice.implementation,
            options=request.with_,
            inputs=request.inputs,
            timeout_ms=timeout_ms,
            deadline_ms=self._bus.clock.now_ms() + timeout_ms,
            budget=request.budget,
            used=request.used,
            tenant=request.tenant,
        )
        return _reply(choice, await ask(self._bus, choice.pool, task))

    async def _placed(self, operation: str, request: CallRequest) -> Choice:
        """Waits a little for workers that are just starting, or away for a moment."""
        with anyio.move_on_after(self._config.workers_grace_s):
            while True:
                changed = self._presence.next_change()
                try:
                    return self._choose(operation, request)
                except (NoWorkers, NotFound) as error:
                    if self._presence.catalog.pools and not self._presence.is_on_its_way(error):
                        raise
                    await self._presence.call_roll()
                    await changed.wait()
        return self._choose(operation, request)

    def _choose(self, operation: str, request: CallRequest) -> Choice:
        catalog = self._presence.catalog
        return choose(operation, request.implementation, catalog, pool=request.pool, options=request.with_)


def _reply(choice: Choice, outcome: StepOutcome) -> CallReply:
    match outcome:
        case StepSucceeded():
            return CallReply(
                outputs=outcome.outputs,
                implementation=choice.implementation,
                handler=choice.handler,
                pool=choice.pool,
                worker=outcome.worker,
                duration_us=outcome.duration_us,
                usage=outcome.usage,
            )
        case StepTimedOut():
            # A call has one limit, which its task has as both: which of them the worker found past says nothing.
            raise DeadlineExceeded(outcome.error.message)
        case StepFailed() | StepLost():
            raise error_from(outcome.error)
        case StepCancelled():
            raise DeadlineExceeded(f"{choice.handler} was cancelled: {outcome.reason}", code="cancelled")
