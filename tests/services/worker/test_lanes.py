"""Lanes: what is asked of which queue when, and what runs first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import anyio
import pytest

from dspex_bus import Consumer
from dspex_bus.subjects import LANES
from dspex_services.worker.lanes import BUSY_S, Lanes

pytestmark = pytest.mark.anyio


class Queue(Consumer):
    """``wanted`` is what stands."""

    def __init__(self) -> None:
        self.wanted = 0
        self.paused = 0

    async def want(self, count: int) -> None:
        self.wanted += count

    async def pause(self) -> None:
        self.wanted = 0
        self.paused += 1

    async def close(self) -> None:
        self.wanted = 0


class Hands:
    """A worker's slots, and what was started in them."""

    def __init__(self, slots: int) -> None:
        self.queues = {lane: Queue() for lane in LANES}
        self.started: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.lanes: Lanes[str] = Lanes(slots, self.started.append, self._spawn)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def wanted(self) -> tuple[int, ...]:
        return tuple(queue.wanted for queue in self.queues.values())

    def came(self, lane: str, item: str) -> None:
        self.queues[lane].wanted -= 1
        self.lanes.came(lane, item)

    async def until(self, *wanted: int) -> None:
        with anyio.fail_after(5):
            while self.wanted() != wanted:
                await anyio.sleep(0.001)


@pytest.fixture
async def two() -> AsyncIterator[Hands]:
    hands = Hands(2)
    await hands.lanes.open(hands.queues)
    yield hands
    await hands.lanes.stop()


async def test_the_lowest_lane_is_asked_once_slots_have_stayed_free(two: Hands) -> None:
    assert two.wanted() == (2, 2, 0)
    await two.until(2, 2, 2)


async def test_with_all_slots_taken_only_the_normal_lane_stands(two: Hands) -> None:
    await two.until(2, 2, 2)
    two.came("normal", "a")
    two.came("normal", "b")
    assert two.started == ["a", "b"]
    await two.until(0, 0, 0)
    assert [queue.paused for queue in two.queues.values()] == [1, 0, 1]


async def test_moments_of_business_cost_nothing(two: Hands) -> None:
    for _ in range(20):
        two.came("normal", "a")
        two.came("normal", "b")
        await two.lanes.free(2)
    assert two.wanted()[:2] == (2, 2)
    assert [queue.paused for queue in two.queues.values()] == [0, 0, 0]


async def test_what_comes_without_a_slot_waits_and_the_urgent_runs_first(two: Hands) -> None:
    await two.until(2, 2, 2)
    for lane, item in (("normal", "a"), ("high", "b"), ("low", "c"), ("normal", "d"), ("high", "e"), ("low", "f")):
        two.came(lane, item)
    assert two.started == ["a", "b"]
    for count in range(3, 7):
        await two.lanes.free(1)
        with anyio.fail_after(5):
            while len(two.started) < count:
                await anyio.sleep(0.001)
    assert two.started[2:] == ["e", "d", "c", "f"]


async def test_what_waits_gives_way_to_what_is_more_urgent(two: Hands) -> None:
    await two.until(2, 2, 2)
    two.came("normal", "a")
    two.came("normal", "b")
    two.came("low", "c")
    await two.lanes.free(1)
    assert two.started == ["a", "b"]
    two.came("high", "d")
    assert two.started == ["a", "b", "d"]
    await two.lanes.free(1)
    with anyio.fail_after(5):
        while two.started[-1] != "c":
            await anyio.sleep(0.001)


async def test_a_slot_is_not_asked_for_twice_while_something_waits_for_it(two: Hands) -> None:
    await two.until(2, 2, 2)
    for item in ("a", "b"):
        two.came("high", item)
    two.came("normal", "c")
    await anyio.sleep(2 * BUSY_S)  # nothing more may be asked for
    assert two.wanted() == (0, 1, 0)
    await two.lanes.free(1)
    assert two.wanted() == (1, 1, 0)


async def test_what_waits_is_still_run_at_the_end(two: Hands) -> None:
    await two.until(2, 2, 2)
    for item in ("a", "b"):
        two.came("high", item)
    two.came("low", "c")
    two.came("normal", "d")
    await two.lanes.stop()
    await two.lanes.free(1)
    assert two.started == ["a", "b", "d"]
    await two.lanes.free(2)
    with anyio.fail_after(5):
        while two.started != ["a", "b", "d", "c"]:
            await anyio.sleep(0.001)
    assert two.wanted() == (0, 0, 0)


async def test_what_needs_no_slot_is_asked_for_again(two: Hands) -> None:
    two.queues["normal"].wanted -= 1
    await two.lanes.dropped("normal")
    assert two.wanted()[1] == 2
