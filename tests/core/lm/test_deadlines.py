"""Many calls' time limits by one timer."""

from __future__ import annotations

import asyncio
import time

import pytest

from dspex_services.lm.deadlines import Deadlines

pytestmark = pytest.mark.anyio

SOON_S = 0.02
PATIENCE_S = 5.0


async def held(deadlines: Deadlines, within_s: float) -> str:
    with deadlines.until(time.monotonic() + within_s):
        await asyncio.sleep(PATIENCE_S)
    return "done"


async def test_what_is_past_its_deadline_ends_then_and_in_their_order() -> None:
    deadlines = Deadlines()
    ended: list[str] = []

    async def one(name: str, within_s: float) -> None:
        with pytest.raises(TimeoutError):
            await held(deadlines, within_s)
        ended.append(name)

    began = time.monotonic()
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        # The latest first: the timer is set anew for each that comes before it.
        for name, within_s in (("last", 3 * SOON_S), ("second", 2 * SOON_S), ("first", SOON_S), ("past", -1.0)):
            group.create_task(one(name, within_s))
    assert ended == ["past", "first", "second", "last"]
    assert time.monotonic() - began < PATIENCE_S
    deadlines.close()


async def test_what_ends_before_is_not_interrupted_later() -> None:
    deadlines = Deadlines()
    with deadlines.until(time.monotonic() + SOON_S):
        pass
    await asyncio.sleep(2 * SOON_S)  # nothing may happen when its time comes
    with pytest.raises(TimeoutError):
        await held(deadlines, SOON_S)
    deadlines.close()


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    deadlines = Deadlines()
    task = asyncio.create_task(held(deadlines, 1000))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    deadlines.close()


async def test_one_that_is_cancelled_as_its_deadline_comes_is_cancelled() -> None:
    deadlines = Deadlines()
    until = deadlines.until(time.monotonic() + 1000)

    async def work() -> None:
        with until:
            await asyncio.sleep(PATIENCE_S)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    until.expire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    deadlines.close()


async def test_an_error_of_the_work_s_own_is_the_error() -> None:
    deadlines = Deadlines()
    with pytest.raises(KeyError), deadlines.until(time.monotonic() + 1000):
        raise KeyError("own")
    deadlines.close()


async def test_limits_within_limits() -> None:
    deadlines = Deadlines()
    with deadlines.until(time.monotonic() + 1000):
        with pytest.raises(TimeoutError):
            await held(deadlines, SOON_S)
        await asyncio.sleep(0)  # the outer one goes on
    deadlines.close()
