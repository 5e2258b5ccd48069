"""The bus's time, told by clocks that a test sets."""

from __future__ import annotations

import math

import anyio
import pytest

from dspex_bus import MemoryBus, MemoryServer
from dspex_bus.clock import Clock, keep_time
from dspex_bus.streams import EVENTS, buckets, streams


class Host:
    """One whose clocks are set by hand, and its clock of the bus."""

    def __init__(self, wall_ms: float = 1_000_000.0) -> None:
        self.steady_ms = 5_000.0
        self.wall_ms = wall_ms
        self.clock = Clock(lambda: self.steady_ms, lambda: self.wall_ms)

    def passes(self, ms: float) -> None:
        self.steady_ms += ms
        self.wall_ms += ms

    def asks(self, server_ms: float, way_ms: float = 4.0) -> None:
        asked_ms = self.steady_ms
        self.passes(way_ms)
        self.clock.told(asked_ms, server_ms + way_ms / 2, self.steady_ms)


def test_the_host_s_own_time_is_believed_until_a_server_says_one() -> None:
    host = Host()
    host.passes(10)
    assert host.clock.now_ms() == 1_000_010


def test_no_time_is_over_that_nobody_has_told() -> None:
    host = Host()
    assert host.clock.left_ms(999_000) == math.inf
    host.asks(998_000)
    assert 990 < host.clock.left_ms(999_000) <= 1_000


@pytest.mark.anyio
async def test_the_time_is_asked_for_until_it_is_told() -> None:
    """There may be no stream yet, which could tell."""
    async with MemoryBus(MemoryServer()) as bus, anyio.create_task_group() as group:
        await group.start(keep_time, bus, EVENTS, 3600.0)
        assert not bus.clock.is_told
        await bus.prepare(streams(), buckets())
        with anyio.fail_after(10):
            while not bus.clock.is_told:
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()


@pytest.mark.parametrize("jump_ms", [3_600_000.0, -3_600_000.0])
def test_a_jump_of_the_host_s_clock_is_none(jump_ms: float) -> None:
    host = Host()
    host.wall_ms += jump_ms
    host.passes(10)
    assert host.clock.now_ms() == 1_000_010


@pytest.mark.parametrize("off_ms", [3_600_000.0, -3_600_000.0])
def test_the_server_s_time_is_kept_to(off_ms: float) -> None:
    host = Host()
    server_ms = 1_000_000 + off_ms
    host.asks(server_ms)
    assert server_ms <= host.clock.now_ms() <= server_ms + 4
    host.passes(1_000)
    assert server_ms + 1_000 <= host.clock.now_ms() <= server_ms + 1_004


def test_what_may_be_right_is_left_as_it_is() -> None:
    """Time does not go to and fro with the answers."""
    host = Host()
    before = host.clock.ahead_ms
    for late_ms in (1, -1, 1.5, -1.5):
        host.asks(host.wall_ms + late_ms)
        assert host.clock.ahead_ms == before
    host.asks(host.wall_ms + 3_000, way_ms=8_000)  # a slow answer says little
    assert host.clock.ahead_ms == before


def test_it_is_no_earlier_than_what_has_come() -> None:
    host = Host()
    host.clock.heard(1_500_000)
    assert host.clock.now_ms() == 1_500_000
    host.clock.heard(900_000)  # which had been under way
    assert host.clock.now_ms() == 1_500_000
    host.asks(1_000_000)
    assert host.clock.now_ms() < 1_000_010
