"""What clients ask of sessions: those that run from memory, those that ended from their journals."""

from __future__ import annotations

import anyio

from dspex_bus import Bus, Message, subjects
from dspex_bus.errors import DeadlineExceeded
from dspex_bus.wire import (
    CancelRequest,
    EventPage,
    EventsRequest,
    PauseRequest,
    ResultRequest,
    RunResult,
    SessionEnded,
    SessionRequest,
    SessionView,
    SignalReply,
    SignalRequest,
    StoredEvent,
    spread,
)

from ..core import Recorded, result_of, view
from .journals import Journals
from .owner import Owner

_LOOK_S = 5.0
_CANCEL_S = 8.0
_PAGE_BYTES = 256 * 1024
"""A page ends behind the event that goes over this: with luck it is one message."""


class Sessions:
    def __init__(self, bus: Bus, owner: Owner, journals: Journals) -> None:
        self._bus = bus
        self._owner = owner
        self._journals = journals
        self._controls = owner.controls

    async def get(self, request: SessionRequest) -> SessionView:
        return view(await self._controls.state(request.session))

    async def result(self, request: ResultRequest) -> RunResult:
        """The result, waiting for it up to ``wait_s``, whoever owns the session."""
        session = request.session
        ended = await self._journals.ended(session)
        if ended is None:
            await self._controls.state(session)
            ended = await self._awaited(session, request.wait_s)
        if ended is None:
            raise DeadlineExceeded(
                f"session {session} has not ended within {request.wait_s:g} s; ask again", details={"session": session}
            )
        return result_of(session, ended[0])

    async def _awaited(self, session: str, wait_s: float) -> tuple[SessionEnded, int] | None:
        """What is said live may be missed while the connection is lost, so the journal is asked from time to time."""
        came = anyio.Event()

        async def told(_message: Message) -> None:
            came.set()

        subject = subjects.session_end(self._journals.partition(session), session)
        async with self._bus.subscribed(subject, told):
            ended = await self._journals.ended(session)
            until = anyio.current_time() + wait_s
            while ended is None and (left := until - anyio.current_time()) > 0:
                with anyio.move_on_after(min(left, _LOOK_S)):
                    await came.wait()
                ended = await self._journals.ended(session)
            return ended

    async def events(self, request: EventsRequest) -> EventPage:
        oldest = await self._journals.snapshots.oldest(request.session)
        compacted = 0 if oldest is None else oldest.event.through
        found: list[StoredEvent] = []
        after, size = request.after, 0
        if request.snapshots and oldest is not None and after < compacted:
            first = _stored(await self._journals.snapshots.first(request.session))
            found += [first] if after < first.sequence else []
            found.append(StoredEvent(sequence=compacted, time_ms=oldest.message.time_ms, event=oldest.event))
            after = compacted
        async for entry in self._journals.entries(request.session, after=after):
            found += spread(_stored(entry.recorded))
            size += entry.size
            if len(found) >= request.limit or size > _PAGE_BYTES:
                break
        if not found and request.after == 0:
            await self._controls.state(request.session)
        return EventPage(
            session=request.session,
            events=tuple(found),
            next_after=found[-1].sequence if found else request.after,
            ended=await self._is_over(request.session, found),
            compacted=compacted,
        )

    async def _is_over(self, session: str, page: list[StoredEvent]) -> bool:
        if page:
            return isinstance(page[-1].event, SessionEnded)
        return await self._journals.has_ended(session)

    async def cancel(self, request: CancelRequest) -> SessionView:
        """Answered when the session has ended, which is soon: nothing of it is accepted or started after that."""
        session = request.session
        await self._controls.cancel(session, request.reason)
        if await self._awaited(session, _CANCEL_S) is None:
            raise DeadlineExceeded(
                f"session {session} will be cancelled, and has not been within {_CANCEL_S:g} s; ask again",
                details={"session": session},
            )
        return await self._stored(session)

    async def pause(self, request: PauseRequest) -> SessionView:
        await self._controls.pause(request.session, request.reason)
        return await self._stored(request.session)

    async def resume(self, request: PauseRequest) -> SessionView:
        await self._controls.resume(request.session)
        return await self._stored(request.session)

    async def signal(self, request: SignalRequest) -> SignalReply:
        return await self._controls.signal(request)

    async def _stored(self, session: str) -> SessionView:
        """With what was just stored, which may not have come to the session in memory yet."""
        state = await self._journals.fold(session)
        return view(state or await self._controls.state(session))


def _stored(event: Recorded) -> StoredEvent:
    return StoredEvent(
        sequence=event.sequence,
        time_ms=event.time_ms,
        event=event.event,
        pool=event.pool,
        node=event.node,
        attempt=event.attempt,
    )
