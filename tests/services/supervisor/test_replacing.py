"""Workers are replaced without a gap, and pools grow and shrink with their work."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from dspex_bus import subjects
from dspex_bus.wire import StepSucceeded, decode_outcome, encode
from dspex_services.supervisor.pool import Pool

from ..rig import Rig
from .supervised import Holds, supervised

pytestmark = pytest.mark.anyio


def the_pool(supervisor: Any) -> Pool:
    (pool,) = supervisor.pools
    assert isinstance(pool, Pool)
    return pool


class Stream:
    """Requests without end, stored tasks and direct calls, until enough."""

    def __init__(self, rig: Rig) -> None:
        self.done = 0
        self._rig = rig

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            self._flows = True
            for _ in range(4):
                group.start_soon(self._stored)
                group.start_soon(self._direct)
            yield
            self._flows = False

    async def _stored(self) -> None:
        while self._flows:
            outcome = await self._rig.run("echo", {"n": self.done})
            assert isinstance(outcome, StepSucceeded)
            self.done += 1

    async def _direct(self) -> None:
        subject = subjects.now(self._rig.pool, "echo")
        while self._flows:
            answer = await self._rig.bus.request(subject, encode(self._rig.task("echo", {"n": 1})), timeout_s=5)
            assert isinstance(decode_outcome(answer.data, subject=subject), StepSucceeded)
            self.done += 1


def least_ready(rig: Rig, size: int) -> int:
    """The least number of workers that said they were ready, once there were enough."""
    ready: set[str] = set()
    least = size
    full = False
    for said in rig.presences:
        (ready.add if said.state == "ready" else ready.discard)(said.worker)
        full = full or len(ready) >= size
        if full:
            least = min(least, len(ready))
    return least


@pytest.mark.slow
@pytest.mark.parametrize("limit", [{"recycle_after_tasks": 50}, {"recycle_after_s": 1.0}])
async def test_no_request_fails_while_workers_are_replaced(rig: Rig, limit: dict[str, float]) -> None:
    stream = Stream(rig)
    async with supervised(rig, size=2, slots=4, **limit) as supervisor:
        pool = the_pool(supervisor)
        await rig.until(lambda: len({said.worker for said in rig.presences}) == 2)
        async with stream.flowing():
            await rig.until(lambda: pool.recycled >= 4, within_s=40)
        assert stream.done > 200
        assert least_ready(rig, 2) == 2
    assert supervisor.restarts == 0
    assert all(said.redelivered == 0 for said in rig.presences)


@pytest.mark.slow
async def test_a_worker_that_has_grown_is_replaced_and_finishes_what_it_has(rig: Rig) -> None:
    """It takes longer than a drain does."""
    async with supervised(rig, slots=2, drain_s=0.5, recycle_over_mb=250) as supervisor, Holds(rig).watching() as holds:
        task = rig.task("hold", {"tell": holds.subject})
        await rig.send(task)
        (old,) = await holds.until(1)
        assert (await rig.run("grow", {"mib": 300})).outputs["pid"] == old
        await rig.until(lambda: any(said.pid == old and said.state == "draining" for said in rig.presences))
        with anyio.fail_after(5):
            while (await rig.run("echo")).outputs["pid"] == old:
                await anyio.sleep(0.05)
        await anyio.sleep(1)  # it must outlast the time that a drain has
        await holds.let_go(0)
        assert (await rig.outcome(task)).outputs == {"pid": old}
        await rig.until(lambda: any(said.pid == old and said.state == "leaving" for said in rig.presences))
        assert (the_pool(supervisor).recycled, supervisor.restarts) == (1, 0)


@pytest.mark.slow
async def test_a_worker_that_takes_its_time_to_leave_is_hurried_when_the_supervisor_ends(rig: Rig) -> None:
    async with Holds(rig).watching() as holds:
        async with supervised(rig, slots=2, drain_s=0.5, recycle_over_mb=250):
            task = rig.task("hold", {"tell": holds.subject})
            await rig.send(task)
            (old,) = await holds.until(1)
            await rig.run("grow", {"mib": 300})
            await rig.until(lambda: any(said.pid == old and said.state == "draining" for said in rig.presences))
            await anyio.sleep(1)  # as above
            began = time.monotonic()
        assert time.monotonic() - began < 5
        async with supervised(rig):  # it was given back
            await holds.until(2)
            await holds.let_go(1)
            assert isinstance(await rig.outcome(task), StepSucceeded)


@pytest.mark.slow
async def test_a_pool_grows_while_tasks_wait_and_shrinks_when_there_are_none(rig: Rig) -> None:
    sizing = {"size": 1, "max_size": 3, "slots": 1, "scale_after_s": 0.2, "idle_s": 0.7}
    async with supervised(rig, **sizing) as supervisor, Holds(rig).watching() as holds:
        tasks = [rig.task("hold", {"tell": holds.subject}) for _ in range(4)]
        for task in tasks:
            await rig.send(task)
        assert len(set(await holds.until(3))) == 3
        for number in range(3):
            await holds.let_go(number)
        await holds.until(4)
        await holds.let_go(3)
        for task in tasks:
            assert isinstance(await rig.outcome(task), StepSucceeded)
        pool = the_pool(supervisor)
        await rig.until(lambda: pool.size == 1, within_s=10)
        assert supervisor.restarts == 0
        assert isinstance(await rig.run("echo"), StepSucceeded)


@pytest.mark.slow
async def test_a_pool_grows_for_calls_that_wait(rig: Rig) -> None:
    """Core requests are in no queue that the server could tell of."""
    sizing = {"size": 1, "max_size": 2, "slots": 1, "scale_after_s": 0.5}
    answers: list[Any] = []

    async def call(subject: str) -> None:
        answers.append(await rig.bus.request(subject, encode(rig.task("slow")), timeout_s=30))

    async with supervised(rig, **sizing) as supervisor, anyio.create_task_group() as calling:
        for _ in range(8):
            calling.start_soon(call, subjects.now(rig.pool, "slow"))
        pool = the_pool(supervisor)
        await rig.until(lambda: pool.size == 2, within_s=15)
    assert len(answers) == 8


@pytest.mark.slow
async def test_the_oldest_wait_is_known(rig: Rig) -> None:
    async with supervised(rig, slots=1), Holds(rig).watching() as holds:
        began = time.monotonic()
        for _ in range(3):
            await rig.send(rig.task("hold", {"tell": holds.subject}))
        await holds.until(1)
        await anyio.sleep(0.3)  # the wait that is to be told
        counts = await rig.counts()
        assert counts["pending"] == 2
        assert 250 <= counts["oldest_wait_ms"] <= 1000 * (time.monotonic() - began) + 50
        for number in range(3):
            await holds.until(number + 1)
            await holds.let_go(number)
        await rig.queue_empty()
        assert (await rig.counts())["oldest_wait_ms"] == 0
