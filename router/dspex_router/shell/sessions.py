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
    SessionEnded,
    SessionList,
    SessionListRequest,
    SessionRequest,
    SessionSummary,
    SessionView,
    StoredEvent,
    encode_event,
)

from ..core import Session, view
from .journals import Journals
from .owner import Owner


class Sessions:
    def __init__(self, bus: Bus, owner: Owner, journals: Journals) -> None:
        self._bus = bus
        self._owner = owner
        self._journals = journals

    async def _state(self, session: str) -> Session:
        """In memory, or folded from its journal. NotFound ``unknown_session``."""
        state = self._owner.sessions.get(session) or await self._journals.fold(session)
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
        with self._owner.expecting_end(session) as end:
            ended = await self._journals.ended(session)
            if ended is None:
                await self._state(session)
                with anyio.move_on_after(request.wait_s):
                    await end.wait()
                ended = await self._journals.ended(session)
        if ended is None:
            raise DeadlineExceeded(
                f"session {session} has not ended within {request.wait_s:g} s; ask again", details={"session": session}
            )
        return RunResult(session=session, status=ended[0].status, output=ended[0].output, error=ended[0].error)

    async def events(self, request: EventsRequest) -> EventPage:
        found: list[StoredEvent] = []
        async for entry in self._journals.entries(request.session, after=request.after):
            event = entry.recorded
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
        return await self._journals.ended(session) is not None

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

    async def listed(self, request: SessionListRequest) -> SessionList:
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
            summary = await self._summary(subjects.split_journal(message.subject).session)
            if summary is not None:
                found.append(summary)
        return found

    async def _summary(self, session: str) -> SessionSummary | None:
        """None where the journal is being purged."""
        state = await self._journals.fold(session)
        if state is None or state.ended is None:
            return None
        return SessionSummary(
            session=session,
            pipeline=state.accepted.plan.pipeline,
            status=state.ended.status,
            accepted_ms=state.accepted_ms,
            ended_ms=state.ended_ms,
        )
