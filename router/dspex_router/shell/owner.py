"""The live sessions, and the one place where what is stored becomes what is done. The hot path."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import anyio
import anyio.lowlevel

from dspex_bus import Bus, StoredMessage, names, subjects
from dspex_bus.claim import claimed
from dspex_bus.errors import DecodeError, DspexError, NewerJournal
from dspex_bus.wire import SessionAccepted, SessionEnded, error_info

from ..core import Command, Event, Recorded, Session, SetTimer, Timer, decide, finish, is_over, resume, unwanted
from .compaction import Compaction
from .config import RouterConfig
from .controlling import Controls
from .errands import Errands
from .gate import Gate
from .journals import Entry, Journals, read
from .limits import Limits
from .membership import Sure
from .performing import Performer, end_write
from .timers import Timers
from .writing import Writer
from .young import Young

log = logging.getLogger(__name__)

_FETCH_PAUSE_S = 0.25
_GROWN = 64
"""Events after which a session is looked at for its length."""

_UNSURE_MS, _UNSURE_TRIES = 250, 8
"""A timer that is due while we may have been taken for dead waits, so often, for what others stored meanwhile."""


class Owner:
    """Folds every stored event into its session and performs what the core says, in the order stored.

    ``sessions`` are the live ones of the partitions that are ``owned``. A session that the core cannot fold is
    ``broken``: it alone ends, with an ``internal`` error. One whose journal takes a newer release is ``refused``: it is
    left to that. ``malformed`` counts journal messages that could not be read. ``sure`` says that nobody can have taken
    us for dead. ``late`` is told of events of sessions that are not in memory, with their sequences: of parked ones, or
    of such as have ended.
    """

    def __init__(
        self,
        bus: Bus,
        config: RouterConfig,
        errands: Errands,
        journals: Journals,
        limits: Limits,
        sure: Sure,
        young: Young,
    ) -> None:
        self._bus = bus
        self._errands = errands
        self._journals = journals
        self._sure = sure
        self._young = young
        self.owned: frozenset[int] = frozenset()
        self.timers = Timers(self._alive, bus.clock)
        self._writer = Writer(bus, errands, self.timers, config.store_tries, self._set_aside)
        self.sessions: dict[str, Session] = {}
        self.controls = Controls(bus, journals, self.sessions)
        self.compaction = Compaction(bus, config, journals, self.sessions)
        self.gate = Gate(bus, limits, self._alive, self._is_over)
        self.performer = Performer(
            bus,
            journals,
            self._writer,
            self.timers,
            errands,
            self.controls,
            limits,
            self.gate,
            young,
            self._on_timer,
            sure,
        )
        self.broken: dict[str, SessionAccepted] = {}
        self.refused: dict[str, NewerJournal] = {}
        self.malformed = 0
        self.late: Callable[[str, int], None] = _nobody
        self._handled: dict[int, int] = {}
        self._early: dict[str, list[Recorded]] = {}
        self._fetching: dict[str, deque[StoredMessage]] = {}
        self._recoveries = 0
        self._tries = config.store_tries

    def own(self, partitions: frozenset[int]) -> None:
        """What is stored about other partitions' sessions is from here on somebody else's to do."""
        self.owned = partitions
        self._young.keep(partitions)
        for held in (self.sessions, self.broken, self.refused):
            for session in [session for session in held if self._journals.partition(session) not in partitions]:
                del held[session]

    @contextmanager
    def recovering(self) -> Iterator[None]:
        """Meanwhile events of sessions not known yet are kept for :meth:`adopt`."""
        self._recoveries += 1
        try:
            yield
        finally:
            self._recoveries -= 1
            if not self._recoveries:
                self._early.clear()

    async def adopt(self, state: Session) -> None:
        """Take over a session as its journal tells it, and do what is still open."""
        if state.id in self.sessions or state.partition not in self.owned:
            return
        for recorded in self._early.pop(state.id, []):
            if recorded.sequence > state.sequence:
                state, _ = decide(state, recorded)
        if state.ended is None:
            self.sessions[state.id] = state
        if state.closing is not None:
            await self.performer.tell_cancelled(state.id)  # whoever closed it may have died before it could
        await self._go_on(state, [*resume(state), *unwanted(state)])

    async def resend(self, state: Session) -> None:
        """Do again what may have been lost with the server's memory. Timers are ours: they are still set."""
        await self._go_on(state, [command for command in resume(state) if not isinstance(command, SetTimer)])

    async def _go_on(self, state: Session, commands: list[Command]) -> None:
        """What cannot be done ends this session, and no other."""
        try:
            await self.performer.perform(state, commands, resent=True)
        except DspexError:
            raise  # the world's fault: it is tried again
        except Exception as error:  # a mistake of ours or a journal nobody foresaw: the other sessions go on
            fault = error
        else:
            return
        await self.abandon(state.accepted, state.partition, fault)

    def refuse(self, session: str, error: NewerJournal) -> None:
        """Do nothing about a session, whatever is stored of it, and say so once."""
        if session not in self.refused and self._journals.partition(session) in self.owned:
            log.warning("nothing is done here about a session: %s", error)
            self.refused[session] = error

    async def abandon(self, accepted: SessionAccepted, partition: int, error: Exception) -> None:
        """End a session that cannot be folded; its end, when stored, is what finishes it."""
        log.error("session %s fails on its own: %s", accepted.session, error, exc_info=error)
        self.sessions.pop(accepted.session, None)
        self.broken[accepted.session] = accepted
        ended = SessionEnded(status="failed", error=error_info(error))
        await self.performer.tell_cancelled(accepted.session)
        await self._writer.write(end_write(accepted.session, partition, ended))

    async def end_unread(self, session: str, partition: int, error: Exception) -> None:
        """End a session that nothing is known about but its id."""
        await self._writer.write(end_write(session, partition, SessionEnded(status="failed", error=error_info(error))))

    async def on_stored(self, message: StoredMessage) -> None:
        kind = subjects.journal_kind(message.subject)
        if kind == "snapshot":
            return  # nothing has happened: somebody has written down how things stand
        if kind == "accepted":
            self._begins(message)
        if message.data and not self._fetching:
            await self._on_whole(message)
            return
        session = subjects.object_owner(message.subject)
        waiting = self._fetching.get(session)
        if waiting is not None:
            waiting.append(message)
        elif claimed(message.data, message.headers) is None:
            await self._on_whole(message)
        else:
            # The others' events must not wait for it, and its session's own must.
            self._fetching[session] = deque([message])
            self._errands.add(partial(self._fetch, session))

    def _begins(self, message: StoredMessage) -> None:
        """Whatever comes of it: until it is in the index, nobody but the journal knows of it."""
        session = subjects.object_owner(message.subject)
        partition = self._journals.partition(session)
        if session and partition in self.owned:
            self._young.came(partition, session, message.sequence)

    async def _fetch(self, session: str) -> None:
        waiting = self._fetching[session]
        try:
            while waiting:
                await self._on_fetched(session, waiting[0])
                waiting.popleft()
        finally:
            del self._fetching[session]

    async def _on_fetched(self, session: str, message: StoredMessage) -> None:
        for tried in range(self._tries):
            try:
                entry = await self._journals.read(message)
            except DecodeError as error:
                self._reject(message, error)
                return
            except NewerJournal as error:
                self.refuse(session, error)
                return
            except DspexError as error:
                if tried == self._tries - 1:
                    self._set_aside(session, error)
                    return
            else:
                await self._on_entry(message, entry)
                return
            await anyio.sleep(_FETCH_PAUSE_S * (tried + 1))

    async def _on_whole(self, message: StoredMessage) -> None:
        try:
            entry = read(message)
        except DecodeError as error:
            self._reject(message, error)
        except NewerJournal as error:
            self.refuse(subjects.object_owner(message.subject), error)
        else:
            await self._on_entry(message, entry)

    def handled(self, partition: int) -> int:
        """The sequence up to which the partition's events are folded, or ``late`` is told of them."""
        being_fetched = [
            waiting[0].sequence - 1
            for session, waiting in self._fetching.items()
            if waiting and self._journals.partition(session) == partition
        ]
        return min([self._handled.get(partition, 0), *being_fetched])

    def has_whole(self, state: Session) -> bool:
        """Whether this is the session as we have it, and nothing that has come for it is still being fetched."""
        return self.sessions.get(state.id) is state and state.id not in self._fetching

    async def _on_entry(self, message: StoredMessage, entry: Entry) -> None:
        self._bus.clock.heard(entry.recorded.time_ms)
        await self._take_in(message, entry)
        partition, sequence = entry.where.partition, entry.recorded.sequence
        self._handled[partition] = max(sequence, self._handled.get(partition, 0))

    async def _take_in(self, message: StoredMessage, entry: Entry) -> None:
        session = entry.where.session
        if entry.where.partition not in self.owned or session in self.refused:
            return
        if entry.fault is not None:
            self._reject(message, entry.fault)
        state = self.sessions.get(session)
        if state is not None and entry.recorded.sequence <= state.sequence:
            return  # it was in the journal already when that was read
        if state is not None or (entry.where.kind == "accepted" and session not in self.broken):
            await self._fold(state, entry.recorded)
        else:
            await self._stranger(entry)
        if entry.where.kind == "step":
            self.gate.done(session, entry.where.node, entry.where.attempt)

    async def _on_timer(self, session: str, event: Timer, tries: int = _UNSURE_TRIES) -> None:
        state = self.sessions.get(session)
        if state is None:
            return
        if tries and not self._sure():
            self.timers.after(_UNSURE_MS, session, partial(self._on_timer, session, event, tries - 1))
        else:
            await self._fold(state, event)

    async def _fold(self, state: Session | None, event: Event) -> None:
        try:
            state, commands = decide(state, event)
            if state.ended is None:
                self.sessions[state.id] = state
                if not state.length % _GROWN:
                    self.compaction.look(state)
            else:
                self.sessions.pop(state.id, None)
            if commands:
                # What others may have done about an event is done again, and said to be.
                old = isinstance(event, Recorded) and not self._sure(event.time_ms)
                await self.performer.perform(state, commands, resent=old)
        except Exception as error:  # as above: one session ends of it, not the partition
            fault = error
        else:
            return
        await self._break(state, event, fault)

    async def _break(self, state: Session | None, event: Event, error: Exception) -> None:
        if state is not None:
            await self.abandon(state.accepted, state.partition, error)
        elif isinstance(event, Recorded) and isinstance(event.event, SessionAccepted):
            await self.abandon(event.event, event.partition, error)

    async def _stranger(self, entry: Entry) -> None:
        """An event of a session that is not in the table: not recovered yet, broken, or ended before."""
        session, event = entry.where.session, entry.recorded.event
        if session in self.broken:
            if isinstance(event, SessionEnded):
                await self._finish_broken(self.broken.pop(session), entry.where.partition, event)
            return
        if self._recoveries:
            self._early.setdefault(session, []).append(entry.recorded)
        self.late(session, entry.recorded.sequence)

    async def _finish_broken(self, accepted: SessionAccepted, partition: int, ended: SessionEnded) -> None:
        await self.performer.finish(accepted.session, partition, finish(accepted, ended, 0, 0))

    def _reject(self, message: StoredMessage, error: DecodeError) -> None:
        """Keep what could not be read where a person can find it. Of a refused session it is nothing to us."""
        if subjects.object_owner(message.subject) in self.refused:
            return
        self.malformed += 1
        log.error("journal message %d on %s: %s", message.sequence, message.subject, error)
        parts = [*message.subject.split("."), *("unknown",) * 3]
        subject = subjects.dead("router", names.safe(parts[4]), "journal", message.sequence)
        headers = {"Dspex-Reason": error.code, "Dspex-Subject": message.subject}
        self._errands.add(partial(self._bus.store_and_wait, subject, message.data, headers=headers, once=True))

    def _set_aside(self, session: str, error: DspexError) -> None:
        """The server does not take what this session needs: whoever waits is told, and a later sweep tries it again."""
        state = self.sessions.pop(session, None)
        if state is None:
            return
        log.error("session %s is set aside until the next sweep: %s", session, error)
        accepted = state.accepted
        if accepted.reply:
            self._errands.add(partial(self.performer.reply_error, accepted.reply, error, accepted.reply_content))

    def tell_again(self, accepted: StoredMessage, end: StoredMessage) -> None:
        """Of a session that has ended, whoever waited for that. It may have been done by somebody who is gone."""
        self._errands.add(partial(self._tell_again, accepted, end))

    async def _tell_again(self, accepted: StoredMessage, end: StoredMessage) -> None:
        await anyio.lowlevel.checkpoint()  # there may be many, and they must not stand in the way of the next event
        begun = (await self._journals.read(accepted)).recorded.event
        ended = (await self._journals.read(end)).recorded.event
        assert isinstance(begun, SessionAccepted)
        assert isinstance(ended, SessionEnded)
        await self.performer.tell_again(finish(begun, ended, accepted.time_ms, end.time_ms))

    def _alive(self, session: str) -> bool:
        return session in self.sessions or session in self.broken

    async def _is_over(self, holder: str) -> bool:
        """Whether an attempt has its outcome: False where that is not for us to say, or not yet."""
        session, node, attempt = holder.rsplit(".", 2)
        if self._recoveries or not self._sure() or self._journals.partition(session) not in self.owned:
            return False
        state = self.sessions.get(session)
        if state is None:
            return await self._journals.has_ended(session)
        return is_over(state, node, int(attempt))


def _nobody(_session: str, _sequence: int) -> None:
    pass
