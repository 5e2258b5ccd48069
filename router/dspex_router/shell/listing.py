"""Which sessions there are, and were: the newest first, a page at a time.

There may be very many, parked ones and ended ones. So the journal is read backwards from its end, as far as a page
needs; where only few sessions live, those are found by the indexes of what lives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TypeVar

import anyio
from msgspec.structs import replace

from dspex_bus import Bus, StoredMessage, subjects
from dspex_bus.errors import DecodeError, NewerJournal
from dspex_bus.streams import EVENTS, LIVE
from dspex_bus.wire import SessionAccepted, SessionEnded, SessionList, SessionListRequest, SessionSummary

from .journals import Journals
from .owner import Owner
from .parked import Parked

_FEW = 1024
"""As many that live are each looked at. Where more do, the end of the journal has enough of them."""

_LOOKED_AT = 1024
"""Sessions that one answer looks at: where they are not enough, it says where to go on."""

_READ_AT_ONCE = 64
_MOST_READ = 8192
"""What starts a session may be megabytes: few are kept at a time, and of a wide range not all are read."""

_HANDS = 16
_STARTS = f"{subjects.JOURNAL}.*.*.accepted"

T = TypeVar("T")
R = TypeVar("R")


class Listing:
    def __init__(self, bus: Bus, owner: Owner, journals: Journals, parked: Parked) -> None:
        self._bus = bus
        self._owner = owner
        self._journals = journals
        self._live = bus.key_value(LIVE)
        self._parked = parked

    async def listed(self, request: SessionListRequest) -> SessionList:
        before = request.before or (await self._bus.stream_info(EVENTS))["last_sequence"] + 1
        if not request.ended and (few := await self._few()) is not None:
            return await self._of_few(few, before, request.limit)
        return await self._backwards(before, request)

    async def _few(self) -> list[str] | None:
        """Those that may live; None where they are many."""
        if len(self._owner.sessions) + await self._live.count() + await self._parked.count() > _FEW:
            return None
        keys = [*await self._live.keys(), *await self._parked.keys()]
        begun = await self._begun_elsewhere()
        if begun is None:
            return None
        return list(dict.fromkeys([*self._owner.sessions, *(key.rpartition(".")[2] for key in keys), *begun]))

    async def _begun_elsewhere(self) -> list[str] | None:
        """With other routers, and so late that they may be in no index; None where these are many."""
        others = set(range(self._journals.partitions)) - self._owner.owned
        marks = await _each(self._parked.checkpoint, sorted(others))
        if not marks:
            return []
        after = min(0 if mark is None else mark.sequence for mark, _ in marks)
        begun: list[str] = []
        async with aclosing(self._bus.history(EVENTS, _STARTS, after=after)) as messages:  # type: ignore[type-var]
            async for message in messages:
                begun.append(subjects.object_owner(message.subject))
                if len(begun) > _FEW:
                    return None
        return begun

    async def _of_few(self, sessions: list[str], before: int, limit: int) -> SessionList:
        found = [one for one in await _each(self._look_for, sessions) if one is not None and one[0] < before]
        found.sort(key=lambda one: -one[0])
        page, more = found[:limit], len(found) > limit
        return SessionList(sessions=tuple(summary for _, summary in page), next=page[-1][0] if more else 0)

    async def _backwards(self, before: int, request: SessionListRequest) -> SessionList:
        page: list[SessionSummary] = []
        looked, width = 0, 64 * request.limit
        while before > 1 and len(page) < request.limit and looked < _LOOKED_AT:
            after = max(0, before - 1 - width)
            room = min(request.limit - len(page), _READ_AT_ONCE)
            messages = await self._newest(after, before, room)
            if messages is None:
                width //= 4
                continue
            found = await _each(partial(self._look, with_ended=request.ended), messages)
            page += [summary for summary in found if summary is not None]
            looked += len(messages)
            if len(messages) == room:
                before = messages[-1].sequence
            else:
                before, width = after + 1, 4 * width
        return SessionList(sessions=tuple(page), next=before if before > 1 else 0)

    async def _newest(self, after: int, before: int, count: int) -> list[StoredMessage] | None:
        """Of what started sessions between two sequences the last, newest first; None where it is too much to read."""
        newest, read = deque[StoredMessage](maxlen=count), 0
        async with aclosing(self._bus.history(EVENTS, _STARTS, after=after)) as messages:  # type: ignore[type-var]
            async for message in messages:
                if message.sequence >= before:
                    break
                newest.append(message)
                read += 1
                if read > _MOST_READ:
                    return None
        return [*reversed(newest)]

    async def _look_for(self, session: str) -> tuple[int, SessionSummary] | None:
        """One that lives."""
        message = await self._bus.last(EVENTS, subjects.accepted(self._journals.partition(session), session))
        summary = None if message is None else await self._look(message, with_ended=False)
        return None if message is None or summary is None else (message.sequence, summary)

    async def _look(self, message: StoredMessage, *, with_ended: bool) -> SessionSummary | None:
        session = subjects.split_journal(message.subject).session
        state = self._owner.sessions.get(session)
        if state is not None:
            return _summary(state.accepted, message.time_ms)
        end = await self._bus.last(EVENTS, subjects.end(self._journals.partition(session), session))
        if end is not None and not with_ended:
            return None
        begun = await self._begun(session, message)
        if end is None:
            return begun
        ended = (await self._journals.read(end)).recorded.event
        assert isinstance(ended, SessionEnded)
        return replace(begun, status=ended.status, ended_ms=end.time_ms)

    async def _begun(self, session: str, message: StoredMessage) -> SessionSummary:
        """As it was accepted; of one whose journal takes a newer release, or cannot be read, only that it was."""
        try:
            event = (await self._journals.read(message)).recorded.event
        except (NewerJournal, DecodeError):
            return SessionSummary(session=session, pipeline="", status="running", accepted_ms=0)
        assert isinstance(event, SessionAccepted)
        return _summary(event, message.time_ms)


def _summary(accepted: SessionAccepted, accepted_ms: int) -> SessionSummary:
    return SessionSummary(
        session=accepted.session, pipeline=accepted.plan.pipeline, status="running", accepted_ms=accepted_ms
    )


async def _each(look: Callable[[T], Awaitable[R]], items: Sequence[T]) -> list[R]:
    """What is found, in the same order."""
    found: dict[int, R] = {}
    hands = anyio.CapacityLimiter(_HANDS)

    async def one(place: int) -> None:
        async with hands:
            found[place] = await look(items[place])

    async with anyio.create_task_group() as group:
        for place in range(len(items)):
            group.start_soon(one, place)
    return [found[place] for place in range(len(items))]
