"""Idle sessions leave this router's memory. They are back when something arrives for them, or is about to be due.

What is in memory is in the live index, or began a moment ago; what is parked is not, so that a take-over does not come
to it. What is stored of a session while it goes, or cannot be read when it should come back, is found by whoever has
its partition next: the checkpoint stays behind what has not been seen to (``docs/decisions/0016``), and behind the
start of what is in no index yet (``docs/decisions/0028``).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import anyio
from msgspec import Struct
from msgspec.structs import replace

from dspex_bus import Bus, subjects
from dspex_bus.errors import Conflict, DspexError
from dspex_bus.streams import EVENTS, LIVE

from ..core import Session, children, let_go, wakes_at
from .config import RouterConfig
from .journals import Journals
from .owner import Owner
from .parked import Checkpoint, Parked
from .recovery import Recovery
from .window import Window
from .young import Young, live_key

log = logging.getLogger(__name__)

_LOOK_S = 1.0
_LOOKS_A_WAIT = 4
"""How often it is looked for sessions to park in the time that one has to be idle."""

_LEAD_S = 3
"""A session is back so long before it is due, or by as much as it has to be idle, if that is less."""

_MARK_S, _SECONDS_BEHIND = 2.0, 60
"""How often a checkpoint is moved where something was stored, and how far it may fall behind where nothing was."""

_AT_ONCE = 64
"""Of a partition: as many a router that dies can leave half parked."""

_TOLD_MS = 60_000

_MOST_CHILDREN = 16
"""A run with more that run is not parked: all are begun again when it is back, in vain."""

_LOOKED_AFTER_MS = 3_600_000
"""A child is back from time to time, for whoever has it in memory looks whether it is wanted still."""

_HANDS = 16
_NEVER = 1 << 62


class _Hold(Struct, eq=False):
    """A partition of ours: its checkpoint as stored and its revision, the sequence up to which its journal was read
    when it was taken over, and the second up to which all that were due have been woken."""

    mark: Checkpoint
    revision: int
    read: int
    second: int
    marked_at: float = 0.0


class _Leaving(Struct, eq=False):
    """A session on its way out, as it was, and the second by which it must be back."""

    state: Session
    sequence: int
    heard_ms: int
    second: int

    def is_as_it_was(self) -> bool:
        return (self.state.sequence, self.state.now_ms) == (self.sequence, self.heard_ms)


class Parking:
    """``claim`` partitions before their live index is read, and ``catch_up`` after: whoever had them before can park
    nothing of them any more."""

    def __init__(
        self,
        bus: Bus,
        config: RouterConfig,
        owner: Owner,
        recovery: Recovery,
        journals: Journals,
        parked: Parked,
        young: Young,
    ) -> None:
        self._bus = bus
        self._live = bus.key_value(LIVE)
        self._owner = owner
        self._recovery = recovery
        self._journals = journals
        self._parked = parked
        self._young = young
        self._park_after_s = config.park_after_s
        self._lead_s = math.ceil(min(_LEAD_S, config.park_after_s or _LEAD_S))
        self._doubt: Callable[[int], None] = lambda _: None
        self._claimed: dict[int, _Hold] = {}
        self._holds: dict[int, _Hold] = {}
        self._waking: dict[int, dict[str, int]] = defaultdict(dict)
        self._failed: set[str] = set()
        self._looked_at = -math.inf
        self._send, self._receive = anyio.create_memory_object_stream[str](math.inf)
        owner.late = self.wake

    def on_doubt(self, doubt: Callable[[int], None]) -> None:
        """Told of a partition that somebody else has claimed since we did: it must be taken over again."""
        self._doubt = doubt

    async def run(self) -> None:
        """Run for as long as partitions are owned."""
        async with self._send, self._receive, anyio.create_task_group() as group:
            for _ in range(_HANDS):
                group.start_soon(self._work)
            while True:
                await anyio.sleep(min(_LOOK_S, self._park_after_s / _LOOKS_A_WAIT or _LOOK_S))
                try:
                    await self._look()
                except DspexError as error:
                    log.warning("what is parked is looked at again in a moment: %s", error)

    # --- partitions come and go ---

    async def claim(self, partitions: Iterable[int]) -> None:
        """From here on another router's marks are refused, and what it was parking stays in the live index."""
        partitions = list(partitions)
        for partition in partitions:
            self._holds.pop(partition, None)  # from when we had it before, and knew what began in it
        last = await self._last()
        await asyncio.gather(*(self._claim(partition, last) for partition in partitions))

    async def _last(self) -> int:
        return int((await self._bus.stream_info(EVENTS))["last_sequence"])

    async def _claim(self, partition: int, last: int) -> None:
        hold = self._claimed[partition] = await self._claimed_hold(partition, last)
        for session in hold.mark.leaving:
            await self._live.put(live_key(partition, session), b"1")
            self.wake(session)

    async def _claimed_hold(self, partition: int, last: int) -> _Hold:
        """``last`` is where the journal ended a moment ago."""
        while True:
            found, revision = await self._parked.checkpoint(partition)
            mark = found or Checkpoint(sequence=0, second=self._now_s())
            if mark.sequence > last and mark.sequence > await self._last():
                mark = replace(mark, sequence=0)  # the journal has lost its end, or was made anew
            try:
                revision = await self._parked.replace(partition, mark, revision)
            except Conflict:
                continue
            return _Hold(mark=mark, revision=revision, read=mark.sequence, second=mark.second)

    async def catch_up(self, partitions: Iterable[int]) -> int:
        """Take up those that began so late that they are in no index, and wake those that were stored something which
        nobody has seen to. How many began."""
        begun = await asyncio.gather(*(self._catch_up(partition) for partition in partitions))
        sessions = [session for some in begun for session in some]
        if sessions:
            await self._recovery.take_these(sessions)
        return len(sessions)

    async def _catch_up(self, partition: int) -> list[str]:
        hold = self._claimed.pop(partition)
        # Without a checkpoint all of the journal is behind it, and nearly all of that has long been told.
        window = Window(0 if hold.mark.sequence else self._bus.clock.now_ms() - _TOLD_MS)
        async for message in self._bus.history(EVENTS, subjects.partition_journal(partition), after=hold.mark.sequence):
            window.add(message)
            hold.read = message.sequence
        for accepted, end in window.over():
            self._owner.tell_again(accepted, end)
        begun = []
        for session, message in window.open():
            if session in self._owner.sessions:
                continue
            if subjects.journal_kind(message.subject) == "accepted" and session not in self._waking[partition]:
                self._young.came(partition, session, message.sequence)
                begun.append(session)
            else:
                self.wake(session, message.sequence)
        self._holds[partition] = hold
        return begun

    # --- waking ---

    def wake(self, session: str, sequence: int = _NEVER) -> None:
        """Have it back in memory, if it has not ended; ``sequence`` is that of what arrived for it."""
        waking = self._waking[self._journals.partition(session)]
        new = session not in waking
        waking[session] = min(sequence, waking.get(session, _NEVER))
        if new:
            self._hand_over(session)

    def _hand_over(self, session: str) -> None:
        try:
            self._send.send_nowait(session)
        except anyio.ClosedResourceError:
            log.debug("session %s is left to whoever comes after us", session)

    async def _work(self) -> None:
        async with self._receive.clone() as sessions:
            async for session in sessions:
                partition = self._journals.partition(session)
                try:
                    await self._wake(partition, session)
                except DspexError as error:
                    log.warning("session %s is woken again in a moment: %s", session, error)
                    self._failed.add(session)
                else:
                    del self._waking[partition][session]

    async def _wake(self, partition: int, session: str) -> None:
        """In the index before it is in memory, and parked no more once it is in both."""
        if partition not in self._owner.owned:
            return
        kept = await self._parked.kept(partition, session)
        if not kept and session not in self._owner.sessions and await self._journals.has_ended(session):
            return
        await self._young.put(partition, session)
        await self._recovery.take_one(session)
        await self._parked.forget(kept)

    # --- looking ---

    async def _look(self) -> None:
        """One after the other: no checkpoint moves while sessions leave."""
        failed, self._failed = self._failed, set()
        for session in failed:
            self._hand_over(session)
        for partition in self._holds.keys() - self._owner.owned:
            del self._holds[partition]
        await self._wake_due()
        await self._young.put_those_that_last(self._marked)
        await self._mark()
        wait_s = self._park_after_s
        if wait_s and anyio.current_time() - self._looked_at >= min(wait_s / _LOOKS_A_WAIT, _MARK_S):
            self._looked_at = anyio.current_time()
            await self._park()

    async def _wake_due(self) -> None:
        """Seconds are behind us once nothing is left that is due in them."""
        holds = dict(self._holds)
        if not holds:
            return
        until = self._now_s() + self._lead_s
        due = await self._parked.due(min(hold.second for hold in holds.values()) + 1, until)
        for session, partition in due.items():
            if partition in holds:
                self.wake(session)
        for partition in holds.keys() - due.values():
            holds[partition].second = max(until, holds[partition].second)

    async def _mark(self) -> None:
        for partition, hold in list(self._holds.items()):
            moved = self._seen_to(partition, hold) > hold.mark.sequence or bool(hold.mark.leaving)
            behind = hold.second - hold.mark.second >= _SECONDS_BEHIND
            if behind or (moved and anyio.current_time() - hold.marked_at >= _MARK_S):
                await self._replace(partition, hold)

    def _marked(self, partition: int) -> int:
        hold = self._holds.get(partition)
        return 0 if hold is None else hold.mark.sequence

    def _seen_to(self, partition: int, hold: _Hold) -> int:
        """Up to where the partition's journal has nothing that a session outside the live index does not know, and no
        start of one."""
        waited_for = [sequence - 1 for sequence in self._waking[partition].values()]
        if (oldest := self._young.oldest(partition)) is not None:
            waited_for.append(oldest - 1)
        return max(hold.mark.sequence, min([max(hold.read, self._owner.handled(partition)), *waited_for]))

    async def _replace(self, partition: int, hold: _Hold, leaving: Iterable[str] = ()) -> bool:
        """Whether the partition is ours still. Who was leaving and is to be back is said to be leaving until it is. Of
        a partition that we have just given up we do not know any more which sessions are in no index."""
        if partition not in self._owner.owned or self._holds.get(partition) is not hold:
            return False
        back = [session for session in hold.mark.leaving if session in self._waking[partition]]
        mark = Checkpoint(sequence=self._seen_to(partition, hold), second=hold.second, leaving=tuple({*leaving, *back}))
        try:
            hold.revision = await self._parked.replace(partition, mark, hold.revision)
        except Conflict:
            if self._holds.get(partition) is hold:
                log.info("the partition %d has been somebody else's meanwhile", partition)
                del self._holds[partition]
                self._doubt(partition)
            return False
        hold.mark, hold.marked_at = mark, anyio.current_time()
        return self._holds.get(partition) is hold

    def _now_s(self) -> int:
        return self._bus.clock.now_ms() // 1000

    # --- parking ---

    async def _park(self) -> None:
        """While nothing is taken up for being in the index: what has just left it could be."""
        leavers: dict[int, list[_Leaving]] = defaultdict(list)
        async with self._recovery.steady:
            for leaving in self._idle():
                partition = leaving.state.partition
                hold = self._holds.get(partition)
                if hold is not None and leaving.second > hold.second and len(leavers[partition]) < _AT_ONCE:
                    leavers[partition].append(leaving)
            async with anyio.create_task_group() as group:
                for partition, those in leavers.items():
                    if those:
                        group.start_soon(self._park_those, partition, self._holds[partition], those)
        if leavers:
            self._owner.timers.tidy()

    def _idle(self) -> Iterator[_Leaving]:
        """Those that have waited for long enough, and have to for long enough."""
        now = self._bus.clock.now_ms()
        wait_ms = int(self._park_after_s * 1000)
        for state in self._owner.sessions.values():
            if now - state.now_ms < wait_ms or state.id in self._waking[state.partition]:
                continue
            wakes_ms = wakes_at(state)
            if wakes_ms is not None and state.accepted.parent is not None:
                wakes_ms = min(wakes_ms, now + _LOOKED_AFTER_MS)
            if wakes_ms is None or wakes_ms - now <= max(wait_ms, 2000 * self._lead_s):
                continue
            if len(children(state)) <= _MOST_CHILDREN:
                yield _Leaving(state, state.sequence, state.now_ms, wakes_ms // 1000)

    async def _park_those(self, partition: int, hold: _Hold, leavers: list[_Leaving]) -> None:
        """Who leaves is said first, so that whoever takes the partition over in the middle has them all."""
        try:
            leavers = [leaving for leaving in leavers if await self._have_begun(children(leaving.state))]
            revisions = [await self._revision(partition, leaving.state.id) for leaving in leavers]
            if not await self._replace(partition, hold, [leaving.state.id for leaving in leavers]):
                return
            async with anyio.create_task_group() as group:
                for leaving, revision in zip(leavers, revisions, strict=True):
                    group.start_soon(self._leave, hold, leaving, revision)
            await self._replace(partition, hold)
        except DspexError as error:
            log.warning("sessions of the partition %d are not parked now: %s", partition, error)

    async def _revision(self, partition: int, session: str) -> int:
        """Of its index entry, 0 where there is none."""
        if self._young.has(partition, session):
            return await self._young.put(partition, session)
        entry = await self._live.get(live_key(partition, session))
        return 0 if entry is None else entry.revision

    async def _have_begun(self, children: list[str]) -> bool:
        """Until then it is their parent in memory that makes sure of them."""
        return all([await self._journals.exists(child) for child in children])

    async def _leave(self, hold: _Hold, leaving: _Leaving, revision: int) -> None:
        """An index entry that was put again is somebody else's, or ours for a session that is to be back."""
        state = leaving.state
        try:
            await self._parked.keep(state.partition, state.id, leaving.second)
            await self._live.delete(live_key(state.partition, state.id), revision=revision)
        except DspexError as error:
            log.warning("session %s is not parked now: %s", state.id, error)
        else:
            ours = self._holds.get(state.partition) is hold
            if revision and ours and leaving.is_as_it_was() and self._owner.has_whole(state):
                del self._owner.sessions[state.id]
                let_go(state)
                return
        self.wake(state.id)
