"""Journals: what a stored message means to the core, and reading one session's."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from msgspec import Struct
from msgspec.structs import replace

from dspex_bus import Bus, StoredMessage, subjects
from dspex_bus.claim import Claims, claimed
from dspex_bus.errors import DecodeError
from dspex_bus.streams import EVENTS
from dspex_bus.subjects import JournalSubject
from dspex_bus.wire import (
    CancelRequested,
    JournalEvent,
    SessionAccepted,
    SessionEnded,
    SessionPaused,
    SessionResumed,
    SessionSnapshot,
    SignalReceived,
    StepFailed,
    decode_event,
    decode_outcome,
    error_info,
    refuse_newer,
    refuse_newer_unread,
)

from ..core import Recorded, Session
from .snapshots import Snapshots

log = logging.getLogger(__name__)

_BELONGS: dict[str, tuple[type, ...]] = {
    "cancel": (CancelRequested,),
    "control": (SessionPaused, SessionResumed),
    "signal": (SignalReceived,),
    "snapshot": (SessionSnapshot,),
    "end": (SessionEnded,),
}


class Entry(Struct):
    """A journal message as read. ``fault`` is there where the bytes were not what belongs in that slot: the slot is
    filled all the same, so it counts as the failure it is, for this router and every later one. ``size`` is that of the
    event, wherever it is kept; ``object`` is where, '' for its message."""

    where: JournalSubject
    recorded: Recorded
    size: int
    fault: DecodeError | None = None
    object: str = ""


def read(message: StoredMessage, fault: DecodeError | None = None) -> Entry:
    """Raises DecodeError where nothing can be made of it, NewerJournal where nothing must be. ``fault`` is what is
    known to be wrong with it."""
    where = _split(message)
    try:
        event = _failure(where, fault) if fault is not None else _event(where, message)
    except DecodeError as error:
        event, fault = _failure(where, fault or error), fault or error
    recorded = Recorded(
        sequence=message.sequence,
        time_ms=message.time_ms,
        event=event,
        partition=where.partition,
        pool=where.pool,
        node=where.node,
        attempt=where.attempt,
    )
    return Entry(where, recorded, len(message.data), fault)


def _split(message: StoredMessage) -> JournalSubject:
    try:
        return subjects.split_journal(message.subject)
    except (ValueError, IndexError) as error:
        raise DecodeError("not a journal subject", subject=message.subject, raw=message.data) from error


def _event(where: JournalSubject, message: StoredMessage) -> JournalEvent:
    if where.kind == "step":
        return decode_outcome(message.data, subject=message.subject)
    if where.kind == "accepted":
        return _accepted(where, message)
    event = decode_event(message.data, subject=message.subject)
    if not isinstance(event, _BELONGS.get(where.kind, ())):
        raise _stray(message)
    return event


def _accepted(where: JournalSubject, message: StoredMessage) -> SessionAccepted:
    try:
        event = decode_event(message.data, subject=message.subject)
    except DecodeError:
        refuse_newer_unread(message.data)
        raise
    if not isinstance(event, SessionAccepted) or event.session != where.session:
        raise _stray(message)
    refuse_newer(event)
    return event


def _stray(message: StoredMessage) -> DecodeError:
    return DecodeError("this event does not belong in this slot", subject=message.subject, raw=message.data)


def _failure(where: JournalSubject, error: DecodeError) -> JournalEvent:
    match where.kind:
        case "step":
            return StepFailed(error=error_info(error))
        case "cancel":
            return CancelRequested(reason="the cancel request is malformed")
        case "control":
            return SessionResumed()
        case "signal":
            return SignalReceived(name="", id="")
        case "end":
            return SessionEnded(status="failed", error=error_info(error))
    raise error


class Journals:
    """One session's journal at a time, read from the server."""

    def __init__(self, bus: Bus, partitions: int) -> None:
        self.bus = bus
        self._claims = Claims(bus)
        self.partitions = partitions
        self.snapshots = Snapshots(self)

    def partition(self, session: str) -> int:
        return subjects.partition_of(session, self.partitions)

    async def read(self, message: StoredMessage) -> Entry:
        """Like :func:`read`, wherever the event is kept."""
        name = claimed(message.data, message.headers)
        if name is None:
            return read(message)
        try:
            data = await self._claims.unpack(message.subject, message.data, message.headers)
        except DecodeError as fault:
            return read(message, fault)
        entry = read(replace(message, data=data))
        entry.object = name
        return entry

    async def entries(self, session: str, *, after: int = 0) -> AsyncIterator[Entry]:
        """What has happened: all but snapshots."""
        pattern = subjects.session_journal(self.partition(session), session)
        stored = self.bus.history(EVENTS, pattern, after=after) if after else self.bus.slots(EVENTS, pattern)
        async for message in stored:
            if subjects.journal_kind(message.subject) == "snapshot":
                continue
            try:
                entry = await self.read(message)
            except DecodeError as error:
                if subjects.journal_kind(message.subject) == "accepted":
                    raise
                log.warning("journal message %d on %s is passed over: %s", message.sequence, message.subject, error)
            else:
                yield entry

    async def fold(self, session: str) -> Session | None:
        """The session as it stands; None where none was accepted. Raises what the core raises, DecodeError where
        ``accepted`` cannot be read, and NewerJournal where it takes a newer release."""
        return await self.snapshots.fold(session)

    async def accepted(self, session: str) -> tuple[SessionAccepted, StoredMessage] | None:
        """The event, and the message it came in."""
        found = await self.bus.last(EVENTS, subjects.accepted(self.partition(session), session))
        if found is None:
            return None
        event = (await self.read(found)).recorded.event
        assert isinstance(event, SessionAccepted)
        return event, found

    async def exists(self, session: str) -> bool:
        return await self.bus.last(EVENTS, subjects.accepted(self.partition(session), session)) is not None

    async def has_ended(self, session: str) -> bool:
        return await self.bus.last(EVENTS, subjects.end(self.partition(session), session)) is not None

    async def ended(self, session: str) -> tuple[SessionEnded, int] | None:
        """The event and when it was stored, milliseconds since the epoch. Raises NewerJournal where it says what is not
        known here."""
        found = await self.bus.last(EVENTS, subjects.end(self.partition(session), session))
        if found is None:
            return None
        entry = await self.read(found)
        if entry.fault is not None:
            await self.accepted(session)  # raises where it is only newer than us
        event = entry.recorded.event
        assert isinstance(event, SessionEnded)
        return event, found.time_ms
