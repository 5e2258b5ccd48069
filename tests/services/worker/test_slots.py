"""How many tasks a worker takes, and when a slot is free again."""

from __future__ import annotations

import threading
import time
from typing import Any

import anyio
import pytest

from dspex_bus.wire import StepSucceeded, StepTimedOut
from dspex_services.handlers import Handlers, Step

from ..rig import Rig

pytestmark = pytest.mark.anyio


class Gate:
    """Handlers that wait until the test lets them go, in a thread or on the loop."""

    def __init__(self) -> None:
        self.handlers = Handlers()
        self.inside = 0
        self.most = 0
        self.open = threading.Event()
        self._lock = threading.Lock()

        @self.handlers.handler("block")
        def block(values: dict[str, Any]) -> dict[str, Any]:
            with self:
                self.open.wait(20)
            return {}

        @self.handlers.handler("wait")
        async def wait(values: dict[str, Any]) -> dict[str, Any]:
            with self:
                while not self.open.is_set():
                    await anyio.sleep(0.01)
            return {}

        @self.handlers.handler("block_within")
        async def block_within(values: dict[str, Any], step: Step) -> dict[str, Any]:
            with self:
                await step.in_thread(lambda: self.open.wait(20))
            return {}

    def __enter__(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.inside -= 1

    async def has(self, count: int) -> None:
        with anyio.fail_after(10):
            while self.inside < count:
                await anyio.sleep(0.01)


@pytest.mark.parametrize("handler", ["block", "wait"])
async def test_as_many_tasks_are_taken_as_slots_are_free(rig: Rig, handler: str) -> None:
    gate = Gate()
    tasks = [rig.task(handler) for _ in range(7)]
    async with rig.worker(gate.handlers, slots=3):
        for task in tasks:
            await rig.send(task)
        await gate.has(3)
        counts = await rig.counted(len(tasks))
        assert (counts["ack_pending"], counts["pending"]) == (3, 4)
        gate.open.set()
        for task in tasks:
            assert isinstance(await rig.outcome(task), StepSucceeded)
        await rig.queue_empty()
    assert gate.most == 3


async def test_what_a_busy_worker_does_not_take_another_does(rig: Rig) -> None:
    gate = Gate()
    async with rig.worker(gate.handlers, slots=1):
        held = rig.task("wait")
        await rig.send(held)
        await gate.has(1)
        async with rig.worker(gate.handlers, slots=1, name="other"):
            gate.open.set()
            assert (await rig.run("wait")).worker
            assert isinstance(await rig.outcome(held), StepSucceeded)


@pytest.mark.parametrize("handler", ["block", "block_within"])
async def test_a_thread_that_overruns_keeps_its_slot_until_it_ends(rig: Rig, handler: str) -> None:
    gate = Gate()
    async with rig.worker(gate.handlers, slots=1) as worker:
        outcome = await rig.run(handler, timeout_ms=200)
        assert isinstance(outcome, StepTimedOut)
        assert outcome.error.code == "step_timed_out"
        assert outcome.error.retryable
        await rig.queue_empty()
        waiting = rig.task(handler)
        await rig.send(waiting)
        await rig.seen(lambda: rig.presences and rig.presences[-1].done == 1)
        assert worker.busy == 1  # the thread counts
        assert (await rig.counts())["pending"] == 1
        gate.open.set()
        assert isinstance(await rig.outcome(waiting), StepSucceeded)
    assert worker.busy == 0


async def test_a_coroutine_that_overruns_is_cancelled_and_its_slot_is_free(rig: Rig) -> None:
    gate = Gate()
    async with rig.worker(gate.handlers, slots=1):
        assert isinstance(await rig.run("wait", timeout_ms=100), StepTimedOut)
        assert gate.inside == 0
        gate.open.set()
        assert isinstance(await rig.run("wait"), StepSucceeded)


async def test_blocking_steps_run_side_by_side(rig: Rig) -> None:
    gate = Gate()
    async with rig.worker(gate.handlers, slots=4):
        for _ in range(4):
            await rig.send(rig.task("block"))
        await gate.has(4)
        gate.open.set()


async def test_a_blocking_step_is_kept_from_redelivery_by_heartbeats(rig: Rig) -> None:
    """It takes three times the ack wait, and holds every thread there is."""
    runs = []
    handlers = Handlers()

    @handlers.handler("long")
    def long(values: dict[str, Any]) -> dict[str, Any]:
        runs.append(values)
        time.sleep(1.8)
        return {}

    async with rig.worker(handlers, slots=2, ack_wait_s=0.6), rig.worker(handlers, slots=2, ack_wait_s=0.6):
        tasks = [rig.task("long") for _ in range(4)]
        for task in tasks:
            await rig.send(task)
        for task in tasks:
            assert isinstance(await rig.outcome(task), StepSucceeded)
        await rig.queue_empty()
    assert len(runs) == 4


async def test_a_coroutine_that_ignores_its_cancellation_is_not_waited_for(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dspex_services.worker.stored._STUBBORN_S", 0.3)
    handlers = Handlers()
    release = anyio.Event()

    @handlers.handler("stubborn")
    async def stubborn(values: dict[str, Any]) -> dict[str, Any]:
        while not release.is_set():
            try:
                await release.wait()
            except BaseException:
                continue
        return {}

    async with rig.worker(handlers, slots=1, ack_wait_s=0.9) as worker:
        task = rig.task("stubborn", timeout_ms=100)
        await rig.send(task)
        outcome = await rig.outcome(task)
        assert isinstance(outcome, StepTimedOut)
        await rig.queue_empty()
        assert worker.busy == 1
        release.set()
        await rig.seen(lambda: worker.busy == 0 and rig.presences[-1].done == 1)
        assert rig.outcomes[rig.slot(task)] is outcome
