"""What clients ask of sessions: those that run from memory, those that ended from their journals."""

from __future__ import annotations

import anyio

from dspex_bus import Bus, subjects
from dspex_bus.errors import Conflict, DeadlineExceeded, NotFound
from dspex_bus.streams import EVENTS
from dspex_bus.wire import (
    CancelRequest,
    CancelRequested,
    EventPage,
    EventsRequest,
    ResultRequest,
    RunResult,
    SessionAccepted,
    SessionEnded,
    SessionList,
    SessionListRequest,
    SessionRequest,
    SessionSummary,
    SessionView,
    StoredEvent,
    decode_event,
    encode_event,
)

from ..core import Session, decide, view
from .owner import Owner, recorded


class Sessions:
    def __init__(self, bus: Bus, owner: Owner, partitions: int) -> None:
        self._bus = bus
        self._owner = owner
        self._partitions = partitions

    def _partition(self, session: str) -> int:
        return subjects.partition_of(session, self._partitions)

    async def _state(self, session: str) -> Session:
        """In memory, or folded from its journal. NotFound ``unknown_session``."""
        state = self._owner.sessions.get(session)
        if state is not None:
            return state
        async for message in self._bus.history(EVENTS, subjects.session_journal(self._partition(session), session)):
            state, _ = decide(state, recorded(message))
        if state is None:
            raise NotFound(
                f"there is no session {session!r}; it may have been purged",
                code="unknown_session",
                details={"session": session},
            )
        return state

    async def get(self, request: SessionRequest) -> SessionView:
        return view(await self._state(request.session))

    async def result(self, request: ResultRequest) -> RunResult:
        """The result, waiting for it up to ``wait_s``."""
        session = request.session
        with anyio.move_on_after(request.wait_s):
            await self._owner.ended(session)
        ended = await self._end(session)
        if ended is None:
            await self._state(session)
            raise DeadlineExceeded(
                f"session {session} has not ended within {request.wait_s:g} s; ask again", details={"session": session}
            )
        return RunResult(session=session, status=ended.status, output=ended.output, error=ended.error)

    async def _end(self, session: str) -> SessionEnded | None:
        slot = subjects.end(self._partition(session), session)
        held = await self._bus.last(EVENTS, slot)
        event = held and decode_event(held.data, subject=slot)
        return event if isinstance(event, SessionEnded) else None

    async def events(self, request: EventsRequest) -> EventPage:
        subject = subjects.session_journal(self._partition(request.session), request.session)
        found: list[StoredEvent] = []
        async for message in self._bus.history(EVENTS, subject, after=request.after):
            event = recorded(message)
            found.append(
                StoredEvent(
                    sequence=event.sequence,
                    time_ms=event.time_ms,
                    event=event.event,
                    pool=event.pool,
                    node=event.node,
                    attempt=event.attempt,
                )
            )
            if len(found) == request.limit:
                break
        if not found and request.after == 0:
            await self._state(request.session)
        return EventPage(
            session=request.session,
            events=tuple(found),
            next_after=found[-1].sequence if found else request.after,
            ended=await self._is_over(request.session, found),
        )

    async def _is_over(self, session: str, page: list[StoredEvent]) -> bool:
        if page:
            return isinstance(page[-1].event, SessionEnded)
        return await self._end(session) is not None

    async def cancel(self, request: CancelRequest) -> SessionView:
        """Stores the request, once; a session that has ended is refused."""
        state = await self._state(request.session)
        if state.ended is not None:
            raise Conflict(
                f"session {request.session} has ended already: {state.ended.status}",
                code="session_ended",
                details={"status": state.ended.status},
            )
        slot = subjects.cancel_request(state.partition, request.session)
        data, headers = encode_event(CancelRequested(reason=request.reason), slot)
        await self._bus.store_and_wait(slot, data, headers=headers, once=True)
        return view(await self._state(request.session))

    async def list(self, request: SessionListRequest) -> SessionList:
        """Newest first: those in memory, then, if asked for, those whose end is in the journal."""
        running = [
            SessionSummary(
                session=state.id, pipeline=state.accepted.plan.pipeline, status="running", accepted_ms=state.accepted_ms
            )
            for state in self._owner.sessions.values()
        ]
        running.sort(key=lambda summary: -summary.accepted_ms)
        if request.ended and len(running) < request.limit:
            running += await self._over(request.limit - len(running))
        return SessionList(sessions=tuple(running[: request.limit]))

    async def _over(self, limit: int) -> list[SessionSummary]:
        ends = [message async for message in self._bus.history(EVENTS, f"{subjects.JOURNAL}.*.*.end")]
        found = []
        for message in reversed(ends[-limit:]):
            place = subjects.split_journal(message.subject)
            ended = decode_event(message.data, subject=message.subject)
            began = await self._bus.last(EVENTS, subjects.accepted(place.partition, place.session))
            accepted = began and decode_event(began.data, subject=began.subject)
            if began is not None and isinstance(ended, SessionEnded) and isinstance(accepted, SessionAccepted):
                found.append(
                    SessionSummary(
                        session=place.session,
                        pipeline=accepted.plan.pipeline,
                        status=ended.status,
                        accepted_ms=began.time_ms,
                        ended_ms=message.time_ms,
                    )
                )
        return found
