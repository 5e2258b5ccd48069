"""What ends an attempt before its handler does: as ``asyncio.timeout`` would."""

from __future__ import annotations

import asyncio

import pytest

from dspex_services.worker.limit import Limit

pytestmark = pytest.mark.anyio


async def test_it_ends_what_runs_within_it() -> None:
    limit = Limit()
    asyncio.get_running_loop().call_soon(limit.end)
    with pytest.raises(TimeoutError), limit:
        await asyncio.Event().wait()
    assert limit.ended
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)  # nothing is left over


async def test_what_ends_by_itself_is_left_alone() -> None:
    limit = Limit()
    with limit:
        limit.end()
        limit.end()
    assert limit.told_at is not None
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not limit.ended


async def test_an_error_in_answer_to_it_is_told() -> None:
    limit = Limit()
    asyncio.get_running_loop().call_soon(limit.end)

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("mine") from None

    with pytest.raises(ValueError, match="mine"), limit:
        await work()


async def test_a_cancel_from_outside_goes_on_outside() -> None:
    limit, within = Limit(), asyncio.Event()

    async def work() -> None:
        with limit:
            within.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await within.wait()
    limit.end()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
