"""Long journals made shorter: what has happened is summed up in a snapshot, and older outcomes are purged."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

import anyio
import msgspec

from dspex_bus import Bus, StoredMessage, subjects
from dspex_bus.claim import Claims
from dspex_bus.errors import DspexError
from dspex_bus.streams import EVENTS, OBJECTS
from dspex_bus.wire import FORMAT_OF_SNAPSHOTS, SessionSnapshot, encode, encode_event

from ..core import Session, decide, save
from .config import RouterConfig
from .journals import Journals
from .snapshots import SHORTEST, Snapshot

log = logging.getLogger(__name__)

_STORE_S = 10.0


class Compaction:
    """One session at a time, and apart from the states that are folded on: the journal is read again, as another owner
    would read it.

    The next snapshot is due after ``compact_events``, and only when the events since have more bytes than the last one.
    Each is stored by compare-and-swap, so of two owners one makes it. Outcomes are purged up to one that has been there
    for ``compact_grace_s`` and is not the newest: who reads slowly finds what it needs, and a task that is delivered
    once more its slot filled.
    """

    def __init__(self, bus: Bus, config: RouterConfig, journals: Journals, sessions: Mapping[str, Session]) -> None:
        self._bus = bus
        self._claims = Claims(bus)
        self._journals = journals
        self._snapshots = journals.snapshots
        self._sessions = sessions
        self._every = max(config.compact_events, SHORTEST)
        self._grace_ms = int(1000 * config.compact_grace_s)
        self._due: dict[str, float] = {}
        self._waiting: dict[str, None] = {}
        self._woken = anyio.Event()

    def look(self, state: Session) -> None:
        """To be told of a session now and then, while it grows."""
        if (
            state.length >= self._due.get(state.id, self._every)
            and state.id not in self._waiting
            and state.accepted.format >= FORMAT_OF_SNAPSHOTS
        ):
            self._waiting[state.id] = None
            self._woken.set()

    def busy(self, session: str) -> bool:
        """Whether something is still to be done about what it was told of a session."""
        return session in self._waiting

    async def run(self) -> None:
        """Run for as long as the router does."""
        while True:
            await self._woken.wait()
            self._woken = anyio.Event()
            while self._waiting:
                await self._next(next(iter(self._waiting)))

    async def _next(self, session: str) -> None:
        there = self._sessions.get(session)
        try:
            self._due[session] = math.inf if there is None else await self._compact(there)
        except Exception as error:  # it is only put off: a session lives without a snapshot
            self._due[session] = 0 if there is None else there.length + self._every
            unexpected = None if isinstance(error, DspexError) else error
            log.warning("the journal of session %s was not compacted: %s", session, error, exc_info=unexpected)
        del self._waiting[session]
        self._due = {session: due for session, due in self._due.items() if session in self._sessions}

    async def _compact(self, there: Session) -> float:
        """The length from which it is worth a look again."""
        session = there.id
        base = await self._snapshots.newest(session)
        if base is not None and there.length < base.event.due:
            return base.event.due
        event = await self._sum_up(session, base)
        if event is None:
            return math.inf
        if await self._store(session, event, 0 if base is None else base.message.sequence):
            log.info("the %d events of session %s are summed up", event.length, session)
            await self._forget(session)
        return event.due

    async def _sum_up(self, session: str, base: Snapshot | None) -> SessionSnapshot | None:
        """None where the session is about to end."""
        state, size, objects = None if base is None else await self._snapshots.restored(base), 0, []
        async for entry in self._journals.entries(session, after=0 if base is None else base.event.through):
            if state is not None or entry.where.kind == "accepted":
                state, _ = decide(state, entry.recorded)
            size += entry.size
            objects += [entry.object] if entry.object and entry.where.kind == "step" else []
        if state is None or state.phase != "running":
            return None
        saved = save(state)
        events = state.length - (0 if base is None else base.event.length)
        worth = len(encode(saved)) * events // max(size, 1)
        return SessionSnapshot(
            through=state.sequence,
            length=state.length,
            due=state.length + max(self._every, worth),
            objects=tuple(objects),
            state=msgspec.to_builtins(saved),
        )

    async def _store(self, session: str, event: SessionSnapshot, before: int) -> bool:
        """Whether it is ours that follows the one ``before``."""
        subject = self._snapshots.subject(session)
        data, headers = await self._claims.pack(subject, *encode_event(event, subject))
        stored = await self._bus.store_and_wait(subject, data, headers=headers, expect=before, timeout_s=_STORE_S)
        if not stored.created:
            await self._claims.drop_unless_stored(subject, headers)
        return stored.created

    async def _forget(self, session: str) -> None:
        """What is not needed any more; objects last, for those who are just reading what names them."""
        before = self._bus.clock.now_ms() - self._grace_ms
        messages = await self._snapshots.messages(session)
        settled = [message for message in messages[:-1] if message.time_ms <= before]
        if not settled:
            return
        gone = [await self._snapshots.read(message) for message in settled]
        partition, oldest = self._journals.partition(session), gone[-1]
        outcomes = subjects.session_outcomes(partition, session)
        await self._bus.purge(EVENTS, outcomes, before=oldest.event.through + 1)
        await self._bus.purge(EVENTS, self._snapshots.subject(session), before=oldest.message.sequence)
        await self._drop([name for snapshot in gone for name in snapshot.event.objects], settled[:-1])

    async def _drop(self, names: list[str], snapshots: list[StoredMessage]) -> None:
        objects = self._bus.objects(OBJECTS)
        for name in names:
            await objects.delete(name)
        for message in snapshots:
            await self._claims.drop(message.subject, message.headers)
