"""Callbacks one at a time and in order, whatever they do."""

from __future__ import annotations

import asyncio

import pytest

from dspex_bus._mailbox import Mailbox
from dspex_bus._tasks import Tasks

pytestmark = pytest.mark.anyio


async def test_one_at_a_time_and_in_order() -> None:
    inside = 0
    got: list[int] = []

    async def callback(item: int) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        await asyncio.sleep(0.001 * (3 - item % 3))
        got.append(item)
        inside -= 1

    box = Mailbox(callback, Tasks(), "box")
    for item in range(10):
        box.put(item)
    await box.close()
    assert got == list(range(10))
    box.put(10)
    await asyncio.sleep(0.01)
    assert got == list(range(10))


async def test_a_callback_that_hangs_is_not_waited_for_without_end() -> None:
    tasks = Tasks()
    got: list[int] = []

    async def callback(item: int) -> None:
        got.append(item)
        await asyncio.Event().wait()

    box = Mailbox(callback, tasks, "box")
    box.put(1)
    box.put(2)
    await asyncio.sleep(0)
    await box.close(timeout_s=0.05)
    await tasks.close()
    assert got == [1]


async def test_what_tasks_raise_is_logged_and_none_outlives_its_owner(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()

    async def fail() -> None:
        raise ValueError("what a task")

    async def stay() -> None:
        await asyncio.Event().wait()

    failing = tasks.start(fail(), "failing")
    await asyncio.wait({failing})
    await asyncio.sleep(0)
    assert "what a task" in caplog.text
    staying = tasks.start(stay(), "staying")
    await tasks.close()
    assert staying.cancelled()


async def test_a_task_that_closes_its_owner_does_not_wait_for_itself() -> None:
    tasks = Tasks()

    async def close() -> None:
        await tasks.close()

    await asyncio.wait_for(tasks.start(close(), "closing"), 5)
