"""Timers, while the bus's clock is set."""

from __future__ import annotations

import anyio
import pytest

from dspex_bus.clock import Clock
from dspex_router.shell.timers import Timers

NOW_MS = 1_000_000


class Set:
    """Timers on a clock that a test sets; ``fired`` are those that have been due."""

    def __init__(self) -> None:
        self.steady_ms = 0.0
        self.clock = Clock(lambda: self.steady_ms, lambda: NOW_MS)
        self.alive = {"s"}
        self.timers = Timers(self.alive.__contains__, self.clock)
        self.fired: list[str] = []

    def at(self, name: str, in_ms: int, *, absolute: bool = False, session: str = "s") -> None:
        self.timers.set(self.clock.now_ms() + in_ms, session, self._fires(name), absolute=absolute)

    def after(self, name: str, delay_ms: int) -> None:
        self.timers.after(delay_ms, "s", self._fires(name))

    def _fires(self, name: str):  # type: ignore[no-untyped-def]
        async def fire() -> None:
            self.fired.append(name)

        return fire

    def jumps(self, ms: float) -> None:
        self.clock.ahead_ms += ms

    async def passes(self, ms: float) -> list[str]:
        """What was due within that time."""
        before = len(self.fired)
        self.steady_ms += ms
        self.timers._keep_to_the_clock()
        for action in self.timers._due(self.steady_ms):
            await action()
        return self.fired[before:]


pytestmark = pytest.mark.anyio


async def test_timers_are_due_in_their_order() -> None:
    made = Set()
    made.at("later", 500)
    made.at("soon", 100)
    made.after("between", 300)
    made.at("nobody's", 50, session="gone")
    assert await made.passes(99) == []
    assert await made.passes(1) == ["soon"]
    assert await made.passes(1_000) == ["between", "later"]
    assert len(made.timers) == 0


@pytest.mark.parametrize("jump_ms", [3_600_000.0, -3_600_000.0])
async def test_what_is_left_of_a_timer_s_time_passes_whatever_the_clock_says(jump_ms: float) -> None:
    made = Set()
    made.at("sleep", 1_000)
    made.after("again", 1_000)
    await made.passes(400)
    made.jumps(jump_ms)
    assert await made.passes(599) == []
    made.at("new", 100)
    assert sorted(await made.passes(1)) == ["again", "sleep"]
    assert await made.passes(98) == []
    assert await made.passes(1) == ["new"]


async def test_what_was_begun_before_our_time_keeps_to_the_clock() -> None:
    made = Set()
    made.at("ours", 1_000)
    made.at("theirs", 1_000, absolute=True)
    made.at("theirs too", 7_200_000, absolute=True)
    made.jumps(3_600_000)
    assert await made.passes(1) == ["theirs"]
    made.jumps(-3_600_000)
    assert await made.passes(999) == ["ours"]
    assert await made.passes(7_199_000 - 1) == []
    assert await made.passes(1) == ["theirs too"]


async def test_one_that_is_sooner_wakes_who_waits() -> None:
    """With the clocks as they are."""
    fired = anyio.Event()
    timers = Timers(lambda _: True, clock := Clock())

    async def fire() -> None:
        fired.set()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(timers.run)
            timers.set(clock.now_ms() + 3_600_000, "s", fire)
            await anyio.wait_all_tasks_blocked()
            timers.set(clock.now_ms() + 10, "s", fire)
            await fired.wait()
            group.cancel_scope.cancel()
