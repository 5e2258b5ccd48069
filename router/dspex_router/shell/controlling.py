"""What stops, holds and moves a session from outside: each a slot in its journal, written once."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from dspex_bus import Bus, subjects
from dspex_bus.claim import Claims
from dspex_bus.errors import Conflict, NewerJournal, NotFound
from dspex_bus.streams import EVENTS
from dspex_bus.wire import (
    CancelRequested,
    JournalEvent,
    SessionPaused,
    SessionResumed,
    SignalReceived,
    SignalReply,
    SignalRequest,
    encode_event,
)

from ..core import Session
from .journals import Journals


class Controls:
    """``sessions`` are those in memory; others are read from their journals."""

    def __init__(self, bus: Bus, journals: Journals, sessions: Mapping[str, Session]) -> None:
        self._bus = bus
        self._journals = journals
        self._sessions = sessions
        self._claims = Claims(bus)

    async def state(self, session: str) -> Session:
        """Raises NotFound ``unknown_session``."""
        state = self._sessions.get(session) or await self._journals.fold(session)
        if state is None:
            raise NotFound(
                f"there is no session {session!r}; it may have been purged",
                code="unknown_session",
                details={"session": session},
            )
        return state

    async def cancel(self, session: str, reason: str) -> None:
        """Once: what comes second changes nothing. Conflict ``session_ended`` where it has ended, unless by having been
        cancelled: who asks again has missed the answer. A request is the same
        in every release: it is stored for a newer one too, for whoever can do it, and NewerJournal says so."""
        slot = subjects.cancel_request(self._journals.partition(session), session)
        try:
            state = await self.state(session)
        except NewerJournal as error:
            if not await self._journals.has_ended(session):
                await self._store(slot, CancelRequested(reason=reason))
                raise NewerJournal(f"{error}. The request to cancel it is stored", details=error.details) from error
            raise
        if state.ended is not None and state.ended.status == "cancelled" and state.cancel_requested:
            return
        _unended(state)
        if await self._store(slot, CancelRequested(reason=reason)):
            await self._in_time(session, slot)

    async def pause(self, session: str, reason: str = "") -> None:
        await self._control(session, paused=True, event=SessionPaused(reason=reason))

    async def resume(self, session: str) -> None:
        await self._control(session, paused=False, event=SessionResumed())

    async def follow(self, child: str, parent: str) -> None:
        """Have a child paused or not, as its parent is when that is done: the parent may change its mind meanwhile, and
        somebody else may be told so at the same time."""
        told: bool | None = None
        while (state := self._sessions.get(parent)) is not None and state.paused is not told:
            told = state.paused
            await (self.pause(child) if told else self.resume(child))

    async def signal(self, request: SignalRequest) -> SignalReply:
        """Conflict ``session_ended`` where it has ended, unless this very signal was stored before that."""
        session, id = request.session, request.id or secrets.token_hex(8)
        slot = subjects.signal(self._journals.partition(session), session, request.name, id)
        try:
            await self._open(session)
            created = await self._store(slot, SignalReceived(name=request.name, id=id, payload=request.payload))
        except Conflict:
            if await self._bus.last(EVENTS, slot) is None:
                raise
            created = False
        await self._in_time(session, slot)
        return SignalReply(session=session, name=request.name, id=id, created=created)

    async def _control(self, session: str, *, paused: bool, event: SessionPaused | SessionResumed) -> None:
        """In the next free slot, unless the session is as wanted by then. The journal says how it is: what is in memory
        may be from before somebody else's pause."""
        state = _unended(await self._journals.fold(session) or await self.state(session))
        while state.paused != paused:
            if await self._store(subjects.control(state.partition, session, state.controls), event):
                return
            state = _unended(await self._journals.fold(session) or state)

    async def _in_time(self, session: str, slot: str) -> None:
        """Conflict where what was stored came after the session's end: what is in memory may be from before that."""
        stored = await self._bus.last(EVENTS, slot)
        end = await self._bus.last(EVENTS, subjects.end(self._journals.partition(session), session))
        if stored is not None and end is not None and end.sequence < stored.sequence:
            _unended(await self._journals.fold(session) or await self.state(session))

    async def _open(self, session: str) -> Session:
        return _unended(await self.state(session))

    async def _store(self, slot: str, event: JournalEvent) -> bool:
        """Whether it was stored; False where the slot was filled before."""
        return (await self._claims.store_once(slot, *encode_event(event, slot))).created


def _unended(state: Session) -> Session:
    if state.ended is not None:
        raise Conflict(
            f"session {state.id} has ended already: {state.ended.status}",
            code="session_ended",
            details={"status": state.ended.status},
        )
    return state
