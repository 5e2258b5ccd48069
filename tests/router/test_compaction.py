"""Journals that are summed up while others read them, and whatever can be in the way of it."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from dspex_bus import MemoryBus, MemoryServer, StoredMessage, subjects
from dspex_bus.claim import LARGE_BYTES, Claims
from dspex_bus.errors import DecodeError, StoreFailed
from dspex_bus.streams import EVENTS, OBJECTS, buckets, streams
from dspex_bus.wire import (
    JournalEvent,
    LoopNode,
    Plan,
    RetryPolicy,
    SequenceNode,
    SessionAccepted,
    SessionEnded,
    SessionPaused,
    SignalReceived,
    StepSucceeded,
    TaskNode,
    encode_event,
)
from dspex_router.core import Session, resume, view
from dspex_router.shell.compaction import Compaction
from dspex_router.shell.config import RouterConfig
from dspex_router.shell.journals import Journals
from dspex_router.shell.snapshots import SHORTEST

pytestmark = pytest.mark.anyio

SESSION = "s"
STEP = TaskNode(
    id="0-n-0", name="step", pool="p", handler="h", implementation="native", timeout_ms=1, retry=RetryPolicy()
)
LOOP = LoopNode(
    id="0", name="rounds", body=SequenceNode(id="0-n", name="round", children=(STEP,)), until="done", at_most=10_000
)
PLAN = Plan(pipeline="p", digest="d", root=SequenceNode(id="root", name="p", children=(LOOP,)))
ACCEPTED = SessionAccepted(session=SESSION, plan=PLAN, input={"done": False}, deadline_ms=2**50, format=2)
CONFIG = RouterConfig(compact_events=SHORTEST, compact_grace_s=0.0)


class Long:
    """A session that grows, and who compacts it."""

    def __init__(self, bus: MemoryBus, config: RouterConfig = CONFIG) -> None:
        self.bus = bus
        self.journals = Journals(bus, 1)
        self.sessions: dict[str, Session] = {}
        self.compaction = Compaction(bus, config, self.journals, self.sessions)
        self.rounds = 0

    async def store(self, slot: str, event: JournalEvent) -> None:
        assert (await Claims(self.bus).store_once(slot, *encode_event(event, slot))).created

    async def start(self, accepted: SessionAccepted = ACCEPTED) -> None:
        await self.store(subjects.accepted(0, SESSION), accepted)

    async def grow(self, rounds: int, **said: str) -> None:
        for _ in range(rounds):
            slot = subjects.outcome(0, SESSION, "p", f"0-{self.rounds}-0", 1)
            self.rounds += 1
            await self.store(slot, StepSucceeded(outputs={**said, "round": self.rounds}))

    async def state(self) -> Session:
        state = await self.journals.fold(SESSION)
        assert state is not None
        return state

    async def compact(self) -> None:
        """As an owner does that has seen the session grow."""
        self.sessions[SESSION] = await self.state()
        self.compaction.look(self.sessions[SESSION])
        for session in list(self.compaction._waiting):
            await self.compaction._next(session)

    async def events(self) -> list[StoredMessage]:
        found = self.bus.history(EVENTS, subjects.session_journal(0, SESSION))
        return [message async for message in found]

    async def outcomes(self) -> int:
        return sum(".step." in message.subject for message in await self.events())

    async def snapshots(self) -> list[StoredMessage]:
        return await self.journals.snapshots.messages(SESSION)

    async def check(self) -> None:
        """The session is what it is without a snapshot."""
        state = await self.state()
        assert state.counts["0-n-0"].succeeded == self.rounds
        assert state.root.child is not None
        assert state.root.child.context.get("round") == self.rounds
        (task, _deadline) = resume(state)
        assert f"0-{self.rounds}-0" in repr(task)


@pytest.fixture
async def bus() -> AsyncIterator[MemoryBus]:
    async with MemoryBus(MemoryServer()) as opened:
        await opened.prepare(streams(partitions=1), buckets())
        yield opened


@pytest.fixture
async def long(bus: MemoryBus) -> Long:
    made = Long(bus)
    await made.start()
    return made


async def test_a_journal_stays_bounded_and_its_session_the_same(long: Long) -> None:
    for number in range(1, 8):
        await long.grow(SHORTEST)
        await long.compact()
        await long.check()
        assert len(await long.snapshots()) == min(number, 2)
        assert await long.outcomes() <= SHORTEST + 7
        await long.grow(7)
        await long.check()


async def test_nothing_is_done_before_it_is_due(long: Long) -> None:
    await long.grow(SHORTEST - 2)
    await long.compact()
    assert not await long.snapshots()
    await long.grow(1)
    await long.compact()
    assert len(await long.snapshots()) == 1
    await long.grow(SHORTEST - 1)
    await long.compact()
    other = Long(long.bus)  # which does not know that there is one already
    other.rounds = long.rounds
    await other.compact()
    assert len(await long.snapshots()) == 1
    assert await long.outcomes() == long.rounds


async def test_a_large_state_waits_until_it_is_worth_it(long: Long) -> None:
    """Snapshots take no more room than events."""
    await long.grow(SHORTEST)
    await long.grow(1, large="y" * 200_000)
    await long.compact()
    await long.grow(SHORTEST)
    await long.compact()
    newest = await long.journals.snapshots.newest(SESSION)
    assert newest is not None
    wait = newest.event.due - newest.event.length
    assert wait > 3 * SHORTEST
    await long.grow(SHORTEST)
    await long.compact()
    assert (await long.snapshots())[-1].sequence == newest.message.sequence
    await long.grow(wait - SHORTEST)
    await long.compact()
    assert (await long.snapshots())[-1].sequence > newest.message.sequence
    await long.check()


async def test_what_is_young_is_kept(bus: MemoryBus) -> None:
    long = Long(bus, dataclasses.replace(CONFIG, compact_grace_s=3600.0))
    await long.start()
    for _ in range(3):
        await long.grow(SHORTEST)
        await long.compact()
    assert len(await long.snapshots()) == 3
    assert await long.outcomes() == long.rounds
    assert await long.journals.snapshots.oldest(SESSION) is None
    await long.check()


async def test_of_two_owners_one_sums_up(long: Long) -> None:
    await long.grow(SHORTEST)
    other = Long(long.bus)
    base = await long.journals.snapshots.newest(SESSION)
    mine, theirs = [await made.compaction._sum_up(SESSION, base) for made in (long, other)]
    assert mine is not None
    assert mine == theirs
    assert await long.compaction._store(SESSION, mine, 0)
    assert not await other.compaction._store(SESSION, mine, 0)
    large = replace(mine, state={"large": "x" * LARGE_BYTES})
    assert not await other.compaction._store(SESSION, large, 0)
    assert await long.bus.objects(OBJECTS).contents() == []
    assert len(await long.snapshots()) == 1


async def test_large_bodies_go_with_what_named_them(long: Long) -> None:
    """Of outcomes, and of snapshots themselves; those that are still read stay."""
    objects = long.bus.objects(OBJECTS)
    await long.grow(SHORTEST)
    await long.grow(1, said="x" * LARGE_BYTES)
    await long.compact()
    names = [info.name.split(".")[1] for info in await objects.contents()]
    assert sorted(names) == ["snapshot", "step"]
    await long.check()
    await long.grow(SHORTEST - 1)
    await long.grow(1, said="y" * LARGE_BYTES)
    await long.compact()  # the outcomes before the first one go
    names = [info.name.split(".")[1] for info in await objects.contents()]
    assert sorted(names) == ["snapshot", "snapshot", "step"]
    await long.check()
    for _ in range(2):
        await long.grow(SHORTEST * 3)
        await long.compact()
    names = [info.name.split(".")[1] for info in await objects.contents()]
    assert names.count("step") == 0
    await long.check()


async def test_a_slow_reader_reads_again(long: Long, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it was reading, what it had still to read was summed up and purged, twice."""
    await long.grow(3 * SHORTEST)
    slow, entries, read = Journals(long.bus, 1), Journals.entries, 0

    async def halting(journals: Journals, session: str, *, after: int = 0) -> AsyncIterator[Any]:
        nonlocal read
        async for entry in entries(journals, session, after=after):
            read += 1
            if journals is slow and read == SHORTEST + 9:
                for _ in range(3):
                    await long.grow(SHORTEST)
                    await long.compact()
            yield entry

    monkeypatch.setattr(Journals, "entries", halting)
    state = await slow.fold(SESSION)
    assert state is not None
    assert state.counts["0-n-0"].succeeded == long.rounds


async def test_between_two_purges_a_journal_begins_where_its_outcomes_do(bus: MemoryBus) -> None:
    """Whoever compacted it died when outcomes were gone and older snapshots were not."""
    long = Long(bus, dataclasses.replace(CONFIG, compact_grace_s=3600.0))
    await long.start()
    for _ in range(3):
        await long.grow(SHORTEST)
        await long.compact()
    first, second, _ = [await long.journals.snapshots.read(message) for message in await long.snapshots()]
    await bus.purge(EVENTS, subjects.session_outcomes(0, SESSION), before=second.event.through + 1)
    assert await long.journals.snapshots.oldest(SESSION) == second
    assert await long.journals.snapshots.have_gone(SESSION, first.event.through)
    assert not await long.journals.snapshots.have_gone(SESSION, second.event.through)
    await long.check()
    other = Long(bus)
    other.rounds = long.rounds
    await other.grow(SHORTEST)
    await other.compact()
    await other.check()
    assert len(await other.snapshots()) == 2


async def test_a_snapshot_that_is_damaged_is_passed_over(long: Long, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        await long.grow(SHORTEST)
        await long.compact()
    newest = (await long.snapshots())[-1]
    damaged = b'{"type":"session.snapshot","through":9,"length":9,"due":9,"state":{"runs":7}}'
    subject = subjects.snapshot(0, SESSION)
    assert (await long.bus.store_and_wait(subject, damaged, expect=newest.sequence)).created
    await long.grow(3)
    await long.check()
    assert "cannot be read" in caplog.text
    for message in (await long.snapshots())[:-1]:
        long.bus.server.streams[EVENTS].remove(message.sequence)
    assert await long.journals.snapshots.newest(SESSION) is None
    with pytest.raises(DecodeError, match="not a session's state"):
        await long.journals.snapshots.read((await long.snapshots())[-1])


async def test_what_cannot_be_stored_is_tried_again_later(
    long: Long, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def full(*_: Any, **__: Any) -> None:
        raise StoreFailed("the stream is full")

    await long.grow(SHORTEST)
    with monkeypatch.context() as patch:
        patch.setattr(MemoryBus, "store_and_wait", full)
        await long.compact()
    assert "the stream is full" in caplog.text
    await long.compact()
    assert not await long.snapshots()
    await long.grow(SHORTEST)
    await long.compact()
    assert len(await long.snapshots()) == 1


@pytest.mark.parametrize(
    "accepted",
    [replace(ACCEPTED, format=1), replace(ACCEPTED, deadline_ms=1)],
    ids=["of an older release", "about to end"],
)
async def test_who_is_left_as_it_is(bus: MemoryBus, accepted: SessionAccepted) -> None:
    long = Long(bus)
    await long.start(accepted)
    await long.grow(SHORTEST)
    await long.compact()
    assert not await long.snapshots()


async def test_a_session_that_has_gone_meanwhile(long: Long) -> None:
    await long.grow(SHORTEST)
    state = await long.state()
    long.compaction.look(state)
    await long.compaction._next(SESSION)
    assert not await long.snapshots()
    assert not long.compaction._due


async def test_an_owner_is_told_and_does_it(long: Long) -> None:
    """By the task that does it for as long as a router runs."""
    await long.grow(SHORTEST)
    long.sessions[SESSION] = await long.state()
    async with anyio.create_task_group() as group:
        group.start_soon(long.compaction.run)
        long.compaction.look(long.sessions[SESSION])
        with anyio.fail_after(5):
            while long.compaction.busy(SESSION):
                await anyio.sleep(0.001)
        assert len(await long.snapshots()) == 1
        group.cancel_scope.cancel()


async def test_what_is_no_outcome_stays(long: Long) -> None:
    """A signal's id is its sender's: sent again it is the same one still."""
    slot = subjects.signal(0, SESSION, "go", "1")
    await long.store(slot, SignalReceived(name="go", id="1", payload={"a": 1}))
    await long.store(subjects.control(0, SESSION, 0), SessionPaused())
    for _ in range(3):
        await long.grow(SHORTEST)
        await long.compact()
    kinds = {message.subject.split(".")[5] for message in await long.events()}
    assert kinds == {"accepted", "signal", "control", "step", "snapshot"}
    state = await long.state()
    assert (state.controls, state.paused, [signal.id for signal in state.signals]) == (1, True, ["1"])
    await long.store(subjects.end(0, SESSION), SessionEnded(status="cancelled"))
    assert view(await long.state()).status == "cancelled"
