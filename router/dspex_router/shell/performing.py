"""Commands to messages: what the core decided, done on the bus."""

from __future__ import annotations

import logging
from typing import Any, assert_never

import anyio

from dspex_bus import Bus, Stored, subjects
from dspex_bus.errors import DspexError, PayloadTooLarge
from dspex_bus.streams import LIVE, TASKS
from dspex_bus.wire import (
    CONTENT_TYPE,
    RESENT,
    ErrorInfo,
    JournalEvent,
    SessionEnded,
    StepFailed,
    Task,
    encode,
    encode_event,
)

from ..core import Command, Dispatch, Finish, RecordEnd, RecordOutcome, Session, SetTimer, TellCancelled
from .config import RouterConfig
from .errands import Errands
from .timers import Timers

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_AGAIN = {RESENT: "1"}


class Performer:
    """Publishes without waiting. A write that the server refuses is tried again with growing pauses, and after
    ``store_tries`` the session is set aside by ``give_up``: the sweep takes it up again from its journal."""

    def __init__(self, bus: Bus, config: RouterConfig, timers: Timers, errands: Errands, give_up: Any) -> None:
        self._bus = bus
        self._config = config
        self._timers = timers
        self._errands = errands
        self._give_up = give_up
        self._live = bus.key_value(LIVE)

    async def perform(self, state: Session, command: Command, *, again: bool = False) -> None:
        """``again`` marks a task that may have been sent, and even run, before."""
        match command:
            case Dispatch():
                await self._dispatch(state, command.pool, command.task, again)
            case RecordOutcome():
                slot = subjects.outcome(state.partition, state.id, command.pool, command.node, command.attempt)
                await self._record(state, slot, command.outcome)
            case RecordEnd():
                await self._record_end(state, command.ended)
            case SetTimer():
                self._timers.set(command.at_ms, state.id, command.event)
            case TellCancelled():
                self._errands.add(lambda: self._tell_cancelled(state.id))
            case Finish():
                self._errands.add(lambda: self._finish(state, command))
            case _:
                assert_never(command)

    async def _dispatch(self, state: Session, pool: str, task: Task, again: bool) -> None:
        subject = subjects.task(pool, subjects.DEFAULT_LANE, state.id, task.node, task.attempt)
        try:
            await self._store(state, subject, encode(task), _AGAIN if again else None)
        except PayloadTooLarge as error:
            slot = subjects.outcome(state.partition, state.id, pool, task.node, task.attempt)
            message = f"the step's input is too large for one message: {error.message}"
            refused = ErrorInfo(code=error.code, message=message, details=error.details)
            await self._record(state, slot, StepFailed(error=refused))

    async def _record(self, state: Session, slot: str, event: JournalEvent) -> None:
        data, headers = encode_event(event, slot)
        await self._store(state, slot, data, headers)

    async def _record_end(self, state: Session, ended: SessionEnded) -> None:
        slot = subjects.end(state.partition, state.id)
        try:
            await self._record(state, slot, ended)
        except PayloadTooLarge as error:
            message = f"the run's output is too large for one message: {error.message}"
            refused = ErrorInfo(code=error.code, message=message, details=error.details)
            await self._record(state, slot, SessionEnded(status="failed", error=refused))

    async def _store(
        self, state: Session, subject: str, data: bytes, headers: dict[str, str] | None, tries: int = 1
    ) -> None:
        def then(result: Stored | Exception) -> None:
            # A slot that somebody filled before is fine: the reader brings what is in it.
            if isinstance(result, Exception):
                self._errands.add(lambda: self._store_again(state, subject, data, headers, tries, result))

        await self._bus.store(subject, data, headers=headers, once=True, then=then)

    async def _store_again(
        self,
        state: Session,
        subject: str,
        data: bytes,
        headers: dict[str, str] | None,
        tries: int,
        refusal: Exception,
    ) -> None:
        if tries >= self._config.store_tries:
            log.error("session %s is set aside: %s could not be stored: %s", state.id, subject, refusal)
            self._give_up(state)
            return
        await anyio.sleep(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (tries - 1)))
        await self._store(state, subject, data, headers, tries + 1)

    async def _tell_cancelled(self, session: str) -> None:
        await self._bus.publish(subjects.cancelled(session))
        await self._bus.purge(TASKS, subjects.session_tasks(session))

    async def _finish(self, state: Session, finish: Finish) -> None:
        if finish.reply:
            data = encode(finish.result, finish.reply_content)
            try:
                await self._bus.publish(finish.reply, data, headers={CONTENT_TYPE: finish.reply_content})
            except DspexError as error:
                log.warning("the result of %s could not be sent; session.result has it: %s", state.id, error)
        await self._live.delete(live_key(state.partition, state.id))


def live_key(partition: int, session: str) -> str:
    return f"{partition}.{session}"
