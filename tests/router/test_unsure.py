"""Who may have been taken for dead, and what a router does that may have been."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest

from dspex_bus import MemoryBus, MemoryServer, subjects
from dspex_bus.claim import Claims
from dspex_bus.streams import EVENTS, TASKS, buckets, streams
from dspex_bus.wire import (
    RESENT,
    SENT,
    Node,
    Plan,
    RetryPolicy,
    SequenceNode,
    SessionAccepted,
    SleepNode,
    TaskNode,
    encode_event,
)
from dspex_router.shell import membership
from dspex_router.shell.config import RouterConfig
from dspex_router.shell.errands import Errands
from dspex_router.shell.hearing import Heard
from dspex_router.shell.journals import Journals
from dspex_router.shell.limits import Limits
from dspex_router.shell.membership import Membership
from dspex_router.shell.owner import Owner
from dspex_router.shell.young import Young

pytestmark = pytest.mark.anyio

ONCE = RetryPolicy(attempts=1)
TASK = TaskNode(id="0", name="step", pool="p", handler="h", implementation="native", timeout_ms=1_000, retry=ONCE)
SLEEP = SleepNode(id="0", name="sleep", duration_ms=1)


# --- who is there ---


def heard() -> Heard:
    others = Heard(every_s=1, fresh_s=3, now=0)
    for name in "ab":
        others.hear(name, 0)
    return others


def test_who_is_silent_for_long_is_missed() -> None:
    others = heard()
    found = []
    for now in range(1, 5):
        others.hear("a", now)
        found.append(others.silent(now))
    assert found == [[], [], [], ["b"]]
    assert others.drop("b")
    assert not others.drop("b")
    assert others.names() == {"a"}


def test_what_we_did_not_live_through_is_held_against_nobody() -> None:
    others = heard()
    assert others.silent(1) == []
    assert others.silent(60) == []  # we were stopped: nothing was missed but two seconds
    assert [others.silent(now) for now in (61, 62, 63)] == [[], ["a", "b"], ["a", "b"]]


def test_after_the_connection_s_return_everybody_has_the_whole_time() -> None:
    others = heard()
    others.excuse(10)
    assert [others.silent(now) for now in (11, 12, 13, 14)] == [[], [], [], ["a", "b"]]


async def test_a_router_is_sure_of_itself_while_it_hears_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ms = 10_000
    monkeypatch.setattr(membership, "_own_ms", lambda: now_ms)
    async with MemoryBus(MemoryServer()) as bus:
        ours = Membership(bus)
        assert not ours.sure()
        async with ours.following(), anyio.create_task_group() as group:
            assert ours.sure()
            now_ms += 3_000  # we were stopped: others may have our partitions by now
            assert not ours.sure()
            group.start_soon(ours.keep)
            with anyio.fail_after(10):
                while ours._came_back_ms != now_ms:
                    await anyio.sleep(0.01)
            assert not ours.sure()  # what was stored meanwhile is still on its way
            now_ms += 500
            assert ours.sure()
            assert not ours.sure(bus.clock.now_ms() - 1_000)  # others may have seen to that
            now_ms += 100
            assert ours.sure(bus.clock.now_ms() - 50)
            ours._on_lost()
            assert not ours.sure()
            group.cancel_scope.cancel()


# --- what is done ---


class Unsure:
    """An owner that is ``sure`` when it is told to be."""

    def __init__(self, bus: MemoryBus) -> None:
        self.bus = bus
        self.sure = False
        self.since_ms = 0
        self.asked = 0
        self.errands = Errands()
        self.owner = Owner(
            bus, RouterConfig(), self.errands, Journals(bus, 1), Limits(bus), self._sure, Young(bus, lambda: True)
        )
        self.owner.own(frozenset({0}))

    def _sure(self, stored_ms: int | None = None) -> bool:
        self.asked += stored_ms is None
        return self.sure and (stored_ms is None or stored_ms >= self.since_ms)

    async def start(self, node: Node) -> None:
        plan = Plan(pipeline="p", digest="d", root=SequenceNode(id="root", name="p", children=(node,)))
        accepted = SessionAccepted(session="s", plan=plan, input={}, deadline_ms=2**50)
        slot = subjects.accepted(0, "s")
        await Claims(self.bus).store_once(slot, *encode_event(accepted, slot))
        stored = await self.bus.last(EVENTS, slot)
        assert stored is not None
        await self.owner.on_stored(stored)


@pytest.fixture
async def unsure() -> AsyncIterator[Unsure]:
    async with MemoryBus(MemoryServer()) as bus:
        await bus.prepare(streams(), buckets())
        made = Unsure(bus)
        async with anyio.create_task_group() as group:
            group.start_soon(made.errands.run)
            await anyio.lowlevel.checkpoint()
            yield made
            group.cancel_scope.cancel()


@pytest.mark.parametrize("sure", [True, False])
async def test_a_task_sent_by_a_router_that_is_not_sure_says_so(unsure: Unsure, sure: bool) -> None:
    unsure.sure = sure
    await unsure.start(TASK)
    task = await unsure.bus.last(TASKS, subjects.task("p", "normal", "s", "0", 1))
    assert task is not None
    assert (RESENT in (task.headers or {})) is not sure
    if sure:
        assert abs(int((task.headers or {})[SENT]) - task.time_ms) < 60_000


async def test_what_follows_from_an_event_of_a_time_when_the_router_was_away_says_so(unsure: Unsure) -> None:
    """Others may have taken its session over, and it is only reading what came then."""
    unsure.sure, unsure.since_ms = True, 2**50
    await unsure.start(TASK)
    task = await unsure.bus.last(TASKS, subjects.task("p", "normal", "s", "0", 1))
    assert task is not None
    assert RESENT in (task.headers or {})


async def test_a_timer_waits_while_its_router_is_not_sure(unsure: Unsure) -> None:
    slot = subjects.outcome(0, "s", subjects.ROUTER_POOL, "0", 1)
    await unsure.start(SLEEP)
    async with anyio.create_task_group() as group:
        group.start_soon(unsure.owner.timers.run)
        with anyio.fail_after(5):
            while not unsure.asked:
                await anyio.sleep(0.01)
        assert await unsure.bus.last(EVENTS, slot) is None
        unsure.sure = True
        with anyio.fail_after(5):
            while await unsure.bus.last(EVENTS, slot) is None:
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
