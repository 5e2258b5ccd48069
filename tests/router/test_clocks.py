"""Routers while the server's clock is set."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

import dspex
from dspex_bus import MemoryBus, MemoryServer
from dspex_router.shell import Router, timers
from dspex_router.shell import router as shell

pytestmark = pytest.mark.anyio

HOUR_S = 3600.0
SLEEP_S = 1.0
LONGEST_S = 20.0


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """By how many seconds the wall clock of this process is off, the server's too; routers look at it often."""
    off, real = [0.0], time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + int(off[0] * 1e9))
    monkeypatch.setattr(shell, "_TIME_S", 0.02)
    monkeypatch.setattr(timers, "_LONGEST_SLEEP_S", 0.02)
    return off


@asynccontextmanager
async def routed(server: MemoryServer) -> AsyncIterator[dspex.Client]:
    async with MemoryBus(server) as bus, MemoryBus(server) as ours, anyio.create_task_group() as group:
        await group.start(Router(ours).run)
        yield dspex.Client(bus)
        group.cancel_scope.cancel()


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S])
async def test_what_sleeps_while_the_clock_is_set_sleeps_as_long_as_it_was_to(
    setting: list[float], jump_s: float
) -> None:
    async with routed(MemoryServer()) as client:
        session = await client.submit(dspex.pipeline([dspex.sleep(SLEEP_S)]), timeout_s=3 * HOUR_S)
        with anyio.fail_after(LONGEST_S):
            begun = time.monotonic()
            await anyio.sleep(SLEEP_S / 4)
            setting[0] = jump_s
            assert (await session.result()).status == "succeeded"
        assert time.monotonic() - begun >= 0.9 * SLEEP_S


async def test_what_another_router_left_sleeping_keeps_to_the_clock(setting: list[float]) -> None:
    """One is due by the time that the server has now, the other when that is set again."""
    server = MemoryServer()
    async with routed(server) as client:
        for session, hours in (("short", 1), ("long", 5)):
            sleeping = dspex.pipeline([dspex.sleep(hours * HOUR_S)])
            await client.submit(sleeping, session=session, timeout_s=9 * HOUR_S)
    setting[0] = HOUR_S
    async with routed(server) as client:
        with anyio.fail_after(LONGEST_S):
            assert (await client.session("short").result()).status == "succeeded"
        assert (await client.session("long").view()).status == "running"
        setting[0] = 5 * HOUR_S
        with anyio.fail_after(LONGEST_S):
            assert (await client.session("long").result()).status == "succeeded"
