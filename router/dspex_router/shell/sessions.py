"""What clients ask of sessions: those that run from memory, those that ended from their journals."""

from __future__ import annotations

from collections import deque

import anyio
from msgspec.structs import replace

from dspex_bus import Bus, Message, StoredMessage, subjects
from dspex_bus.errors import DeadlineExceeded, DecodeError, NewerJournal
from dspex_bus.streams import EVENTS, LIVE
from dspex_bus.wire import (
    CancelRequest,
    EventPage,
    EventsRequest,
    PauseRequest,
    ResultRequest,
    RunResult,
    SessionAccepted,
    SessionEnded,
    SessionList,
    SessionListRequest,
    SessionRequest,
    SessionSummary,
    SessionView,
    SignalReply,
    SignalRequest,
    StoredEvent,
    spread,
)

from ..core import Recorded, result_of, view
from .journals import Journals
from .owner import Owner
from .parked import Parked

_LOOK_S = 5.0
_CANCEL_S = 8.0
_PAGE_BYTES = 256 * 1024
"""A page ends behind the event that goes over this: with luck it is one message."""

_READ_AT_ONCE = 256
_HANDS = 16


class Sessions:
    def __init__(self, bus: Bus, owner: Owner, journals: Journals, parked: Parked) -> None:
        self._bus = bus
        self._owner = owner
        self._journals = journals
        self._controls = owner.controls
        self._live = bus.key_value(LIVE)
        self._parked = parked

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
        subscription = await self._bus.subscribe(subject, told)
        try:
            ended = await self._journals.ended(session)
            until = anyio.current_time() + wait_s
            while ended is None and (left := until - anyio.current_time()) > 0:
                with anyio.move_on_after(min(left, _LOOK_S)):
                    await came.wait()
                ended = await self._journals.ended(session)
            return ended
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                await subscription.close()

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

    async def listed(self, request: SessionListRequest) -> SessionList:
        """Newest first: those that run, then, if asked for, those whose end is in the journal."""
        running = await self._running()
        running.sort(key=lambda summary: -summary.accepted_ms)
        if request.ended and len(running) < request.limit:
            running += await self._over(request.limit - len(running))
        return SessionList(sessions=tuple(running[: request.limit]))

    async def _running(self) -> list[SessionSummary]:
        """Those in memory, and of those elsewhere as many as are read in a moment."""
        found = [_summary(state.accepted, state.accepted_ms) for state in self._owner.sessions.values()]
        indexed = [key.partition(".")[2] for key in await self._live.keys()]
        elsewhere = [
            session
            for session in dict.fromkeys([*indexed, *await self._parked.sessions()])
            if session not in self._owner.sessions
        ][:_READ_AT_ONCE]

        # What starts a session may be megabytes: few at a time.
        hands = anyio.CapacityLimiter(_HANDS)

        async def look(session: str) -> None:
            async with hands:
                if not await self._journals.has_ended(session) and (begun := await self._begun(session)) is not None:
                    found.append(begun)

        async with anyio.create_task_group() as group:
            for session in elsewhere:
                group.start_soon(look, session)
        return found

    async def _over(self, limit: int) -> list[SessionSummary]:
        found = [await self._ended(message) for message in await self._last_ends(limit)]
        return [summary for summary in found if summary is not None]

    async def _last_ends(self, limit: int) -> list[StoredMessage]:
        """The newest first, looked for from the journal's end backwards: there may be very many, with all they say."""
        until = (await self._bus.stream_info(EVENTS))["last_sequence"]
        width, ends = 64 * limit, list[StoredMessage]()
        while until > 0 and len(ends) < limit:
            after = max(0, until - width)
            newest = deque[StoredMessage](maxlen=limit - len(ends))
            async for message in self._bus.history(EVENTS, f"{subjects.JOURNAL}.*.*.end", after=after):
                if message.sequence > until:
                    break
                newest.append(message)
            ends += reversed(newest)
            until, width = after, 4 * width
        return ends

    async def _ended(self, message: StoredMessage) -> SessionSummary | None:
        """None where the journal is being purged."""
        session = subjects.split_journal(message.subject).session
        ended = (await self._journals.read(message)).recorded.event
        begun = await self._begun(session)
        if begun is None or not isinstance(ended, SessionEnded):
            return None
        return replace(begun, status=ended.status, ended_ms=message.time_ms)

    async def _begun(self, session: str) -> SessionSummary | None:
        """As it was accepted; None where it was not."""
        try:
            accepted = await self._journals.accepted(session)
        except (NewerJournal, DecodeError):
            return _unread(session)
        return None if accepted is None else _summary(accepted[0], accepted[1].time_ms)


def _stored(event: Recorded) -> StoredEvent:
    return StoredEvent(
        sequence=event.sequence,
        time_ms=event.time_ms,
        event=event.event,
        pool=event.pool,
        node=event.node,
        attempt=event.attempt,
    )


def _unread(session: str) -> SessionSummary:
    """Of a session whose journal takes a newer release, or cannot be read at all."""
    return SessionSummary(session=session, pipeline="", status="running", accepted_ms=0)


def _summary(accepted: SessionAccepted, accepted_ms: int) -> SessionSummary:
    return SessionSummary(
        session=accepted.session, pipeline=accepted.plan.pipeline, status="running", accepted_ms=accepted_ms
    )
