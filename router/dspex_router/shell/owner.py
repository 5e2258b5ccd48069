"""The owner of sessions: reads the journal in order, folds each event, and has done what follows from it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from dspex_bus import Bus, Reader, StoredMessage, subjects
from dspex_bus.errors import DecodeError, DspexError
from dspex_bus.streams import EVENTS
from dspex_bus.wire import SessionEnded, decode_event, decode_outcome, error_info

from ..core import Command, Event, Finish, Recorded, RecordEnd, Session, Timer, decide, resume
from .config import RouterConfig
from .errands import Errands
from .performing import Performer
from .timers import Timers

log = logging.getLogger(__name__)


def recorded(message: StoredMessage) -> Recorded:
    """The event a journal message holds. Raises DecodeError."""
    place = subjects.split_journal(message.subject)
    decode = decode_outcome if place.kind == "step" else decode_event
    return Recorded(
        sequence=message.sequence,
        time_ms=message.time_ms,
        event=decode(message.data, subject=message.subject),
        partition=place.partition,
        pool=place.pool,
        node=place.node,
        attempt=place.attempt,
    )


class Owner:
    """``sessions`` are those that have not ended. Events of any other are not its business, except while one is being
    recovered: those are kept and folded after its journal."""

    def __init__(self, bus: Bus, config: RouterConfig, errands: Errands) -> None:
        self.sessions: dict[str, Session] = {}
        self.undecodable = 0
        self._bus = bus
        self._timers = Timers(self._fire, self.sessions.__contains__)
        self._performer = Performer(bus, config, self._timers, errands, self._set_aside)
        self._early: dict[str, list[Recorded]] = {}
        self._ends: dict[str, anyio.Event] = {}

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Reader]:
        reader = await self._bus.read(EVENTS, [f"{subjects.JOURNAL}.>"], self._on_stored)
        try:
            yield reader
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                await reader.close()

    async def keep_time(self) -> None:
        await self._timers.run()

    async def ended(self, session: str) -> None:
        """Wait until a session in ``sessions`` has ended."""
        if session in self.sessions:
            await self._ends.setdefault(session, anyio.Event()).wait()

    # --- the hot path ---

    async def _on_stored(self, message: StoredMessage) -> None:
        try:
            event = recorded(message)
        except (DecodeError, DspexError, ValueError, IndexError) as error:
            self.undecodable += 1
            log.error("a journal message is passed over: %s", error)
            return
        session = message.subject.split(".", 5)[4]
        early = self._early.get(session)
        if early is not None:
            early.append(event)
            return
        state = self.sessions.get(session)
        if state is not None:
            if event.sequence > state.sequence:
                await self._fold(session, state, event)
        elif message.subject.endswith(".accepted"):
            await self._fold(session, None, event)

    async def _fire(self, session: str, event: Timer) -> None:
        state = self.sessions.get(session)
        if state is not None:
            await self._fold(session, state, event)

    async def _fold(self, session: str, state: Session | None, event: Event) -> None:
        try:
            state, commands = decide(state, event)
        except Exception as error:
            log.exception("session %s cannot go on", session)
            if state is None:
                return
            commands = [RecordEnd(SessionEnded(status="failed", error=error_info(error)))]
        self.sessions[session] = state
        await self._perform(state, commands)

    async def _perform(self, state: Session, commands: list[Command], *, again: bool = False) -> None:
        for command in commands:
            try:
                await self._performer.perform(state, command, again=again)
            except DspexError as error:
                log.error("session %s is set aside: %s", state.id, error)
                self._set_aside(state)
                return
            if isinstance(command, Finish):
                self._forget(state)

    def _forget(self, state: Session) -> None:
        self.sessions.pop(state.id, None)
        waiting = self._ends.pop(state.id, None)
        if waiting is not None:
            waiting.set()

    def _set_aside(self, state: Session) -> None:
        """Out of memory, but in the live index: the sweep recovers it."""
        self.sessions.pop(state.id, None)

    # --- taking a session up from its journal ---

    async def recover(self, partition: int, session: str) -> bool:
        """Fold a session's journal and do what is still open. False where the journal has nothing of it."""
        if session in self.sessions or session in self._early:
            return True
        early = self._early[session] = []
        try:
            state: Session | None = None
            async for message in self._bus.history(EVENTS, subjects.session_journal(partition, session)):
                state, _ = decide(state, recorded(message))
            for event in early:
                if state is None or event.sequence > state.sequence:
                    state, _ = decide(state, event)
        finally:
            del self._early[session]
        if state is None:
            return False
        self.sessions[session] = state
        await self._perform(state, resume(state), again=True)
        return True

    async def resend(self) -> None:
        """The server may have been restarted: send again what may be lost with its memory."""
        for state in list(self.sessions.values()):
            await self._perform(state, resume(state), again=True)
