"""Journals that have become long, from what sums them up: where to begin to read, and the session as it stands."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from dspex_bus import StoredMessage, subjects
from dspex_bus.errors import DecodeError
from dspex_bus.streams import EVENTS
from dspex_bus.wire import SessionAccepted, SessionSnapshot

from ..core import Recorded, Saved, Session, decide, restore

if TYPE_CHECKING:
    from .journals import Journals

log = logging.getLogger(__name__)

SHORTEST = 256
"""No journal of fewer messages has been compacted."""


@dataclass(slots=True, frozen=True)
class Snapshot:
    """As it is stored, and the state that it holds. A restored session has that for its own."""

    message: StoredMessage
    event: SessionSnapshot
    saved: Saved


class Snapshots:
    """There are the newest one, which says how the session stood, and older ones: outcomes are purged up to the oldest
    that is there, and no further. So who has begun to read from an older one can go on."""

    def __init__(self, journals: Journals) -> None:
        self._journals = journals
        self._bus = journals.bus

    def subject(self, session: str) -> str:
        return subjects.snapshot(self._journals.partition(session), session)

    async def messages(self, session: str) -> list[StoredMessage]:
        """Every snapshot of a session, the oldest first."""
        return [message async for message in self._bus.history(EVENTS, self.subject(session))]

    async def read(self, message: StoredMessage) -> Snapshot:
        """Raises DecodeError where it is none."""
        event = (await self._journals.read(message)).recorded.event
        assert isinstance(event, SessionSnapshot)
        try:
            return Snapshot(message, event, msgspec.convert(event.state, Saved))
        except msgspec.ValidationError as error:
            raise DecodeError(f"not a session's state: {error}", subject=message.subject, raw=message.data) from error

    async def newest(self, session: str, *, through: float = math.inf) -> Snapshot | None:
        """The newest of those that sum up less than ``through``. One that cannot be read is passed over: the one before
        it does as well, with more to read."""
        if await self._bus.last(EVENTS, self.subject(session)) is None:
            return None
        for message in reversed(await self.messages(session)):
            try:
                found = await self.read(message)
            except DecodeError as error:
                log.error("snapshot %d of session %s cannot be read: %s", message.sequence, session, error)
            else:
                if found.event.through < through:
                    return found
        return None

    async def oldest(self, session: str) -> Snapshot | None:
        """What a journal begins with that has been compacted: the snapshot behind which every outcome is there. None
        where it is whole."""
        if await self._bus.last(EVENTS, self.subject(session)) is None:
            return None
        await self.first(session)  # whose snapshots are newer than us is said by that
        return await self.newest(session, through=await self._first_outcome(session))

    async def _first_outcome(self, session: str) -> float:
        outcomes = subjects.session_outcomes(self._journals.partition(session), session)
        async for message in self._bus.history(EVENTS, outcomes):
            return message.sequence
        return math.inf

    async def first(self, session: str) -> Recorded:
        found = await self._bus.last(EVENTS, subjects.accepted(self._journals.partition(session), session))
        assert found is not None
        return (await self._journals.read(found)).recorded

    async def restored(self, base: Snapshot) -> Session:
        return restore(await self.first(subjects.object_owner(base.message.subject)), base.saved)

    async def fold(self, session: str) -> Session | None:
        """See :meth:`Journals.fold`. A short journal is read as it is; a long one from its newest snapshot on, and anew
        if what was still to be read has been summed up meanwhile."""
        while True:
            state, base, count = None, None, 0
            async for entry in self._journals.entries(session):
                if state is not None or isinstance(entry.recorded.event, SessionAccepted):
                    state, _ = decide(state, entry.recorded)
                count += 1
                if count == SHORTEST and (base := await self.newest(session)) is not None:
                    break
            if base is not None:
                state = await self.restored(base)
                async for entry in self._journals.entries(session, after=base.event.through):
                    state, _ = decide(state, entry.recorded)
            if count < SHORTEST or not await self.have_gone(session, 0 if base is None else base.event.through):
                return state

    async def have_gone(self, session: str, after: int) -> bool:
        """Whether outcomes may have been purged under a reader who began after that sequence."""
        oldest = await self.oldest(session)
        return oldest is not None and oldest.event.through > after
