"""What a worker says of itself, and how it leaves."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import anyio
import pytest

from dspex_bus import NatsBus, subjects
from dspex_bus.streams import TASKS
from dspex_bus.wire import StepSucceeded
from dspex_services.handlers import Handlers, Step
from dspex_services.worker import Worker, WorkerConfig

from ..rig import Rig

pytestmark = pytest.mark.anyio


class Holding:
    def __init__(self) -> None:
        self.handlers = Handlers()
        self.inside, self.go = anyio.Event(), anyio.Event()

        @self.handlers.handler("hold")
        async def hold(values: dict[str, Any]) -> dict[str, Any]:
            """Wait for the test."""
            self.inside.set()
            await self.go.wait()
            return {"held": True}


async def test_a_worker_says_what_it_is_and_offers(rig: Rig) -> None:
    async with rig.worker(Holding().handlers, slots=5, model="openai/m", name="ada"):
        await rig.until(lambda: rig.presences)
        said = rig.presences[0]
        assert (said.worker, said.pool, said.slots, said.busy, said.state) == ("ada", rig.pool, 5, 0, "ready")
        assert (said.pid, said.model) == (os.getpid(), "openai/m")
        assert said.memory_bytes > 1_000_000
        assert said.started_ms <= time.time() * 1000
        assert [(info.name, info.summary) for info in said.handlers] == [("hold", "Wait for the test.")]


async def test_it_says_so_every_second(rig: Rig) -> None:
    async with rig.worker(Holding().handlers):
        await rig.until(lambda: len(rig.presences) >= 3, within_s=4)


async def test_it_answers_a_roll_call_at_once(rig: Rig) -> None:
    async with rig.worker(Holding().handlers):
        await rig.until(lambda: rig.presences)
        started = time.monotonic()
        for wanted in range(2, 22):
            await rig.bus.publish(subjects.ROLL_CALL)
            await rig.until(lambda wanted=wanted: len(rig.presences) >= wanted)
        assert time.monotonic() - started < 10  # one each second would be twenty


async def test_it_says_how_busy_it_is(rig: Rig) -> None:
    holding = Holding()
    async with rig.worker(holding.handlers):
        await rig.send(rig.task("hold"))
        await rig.seen(lambda: rig.presences and rig.presences[-1].busy == 1)
        holding.go.set()
        await rig.seen(lambda: rig.presences[-1].busy == 0 and rig.presences[-1].done == 1)


async def test_a_blocking_handler_does_not_silence_it(rig: Rig) -> None:
    handlers, go = Handlers(), threading.Event()

    @handlers.handler("block")
    def block(values: dict[str, Any]) -> dict[str, Any]:
        go.wait(20)
        return {}

    async with rig.worker(handlers, slots=2):
        for _ in range(2):
            await rig.send(rig.task("block"))
        await rig.seen(lambda: rig.presences and rig.presences[-1].busy == 2)
        heard = len(rig.presences)
        await rig.seen(lambda: len(rig.presences) >= heard + 2, within_s=4)
        go.set()


async def test_leaving_it_finishes_what_it_has_and_takes_no_more(rig: Rig) -> None:
    holding = Holding()
    task, late = rig.task("hold"), rig.task("hold")
    async with anyio.create_task_group() as group, NatsBus(rig.url) as bus:
        group.start_soon(_served, group, bus, holding.handlers, rig)
        await rig.send(task)
        with anyio.fail_after(10):
            await holding.inside.wait()
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await rig.until(lambda: rig.presences and rig.presences[-1].state == "draining")
            heard = len(rig.presences)
            await rig.until(lambda: len(rig.presences) >= heard + 2, within_s=4)  # it goes on saying so
            await rig.send(late)
            holding.go.set()
            assert isinstance(await rig.outcome(task), StepSucceeded)
            await rig.until(lambda: rig.presences[-1].state == "leaving")
    counts = await rig.counts()
    assert (counts["pending"], counts["ack_pending"]) == (1, 0)
    assert await rig.stored(late) is None


async def test_a_drain_is_bounded_and_gives_back_what_it_could_not_finish(rig: Rig) -> None:
    holding, task = Holding(), rig.task("hold")
    async with rig.worker(holding.handlers, drain_s=0.3):
        await rig.send(task)
        with anyio.fail_after(10):
            await holding.inside.wait()
        started = time.monotonic()
    assert time.monotonic() - started < 3
    with anyio.fail_after(5):  # at once, not after the ack wait of 15 s
        async with rig.worker(holding.handlers):
            holding.go.set()
            assert isinstance(await rig.outcome(task), StepSucceeded)
            await rig.queue_empty()


async def test_a_drain_is_bounded_for_threads_and_the_stubborn_too(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex_services.worker.worker._UNWIND_S", 0.3)
    monkeypatch.setattr("dspex_services.worker.stored._STUBBORN_S", 0.3)
    handlers, go, stop = Handlers(), threading.Event(), anyio.Event()

    @handlers.handler("block")
    def block(values: dict[str, Any]) -> dict[str, Any]:
        go.wait(20)
        return {}

    @handlers.handler("stubborn")
    async def stubborn(values: dict[str, Any]) -> dict[str, Any]:
        while not stop.is_set():
            try:
                await stop.wait()
            except BaseException:
                continue
        return {}

    try:
        tasks = [rig.task("block"), rig.task("stubborn")]
        async with rig.worker(handlers, drain_s=0.2):
            for task in tasks:
                await rig.send(task)
            await rig.seen(lambda: rig.presences and rig.presences[-1].busy == 2)
            started = time.monotonic()
        assert time.monotonic() - started < 6
        go.set()
        stop.set()
        async with rig.worker(handlers):  # both were given back: nobody waits for the ack wait of 15 s
            for task in tasks:
                assert isinstance(await rig.outcome(task, within_s=5), StepSucceeded)
    finally:
        go.set()
        stop.set()


async def test_handlers_are_closed_even_when_one_cannot_be(rig: Rig) -> None:
    handlers, closed = Holding().handlers, []

    async def fails() -> None:
        raise ValueError("will not")

    async def closes() -> None:
        closed.append(True)

    handlers.on_close(fails)
    handlers.on_close(closes)
    async with rig.worker(handlers):
        pass
    assert closed == [True]


async def test_it_waits_for_the_stream_of_tasks(rig: Rig) -> None:
    """A pool may be started before the router that makes the streams."""
    await rig.bus.purge(TASKS, ">")
    async with anyio.create_task_group() as group, NatsBus(rig.url) as bus:
        ready = anyio.Event()
        worker = Worker(_Without(bus), Holding().handlers, WorkerConfig(pool=rig.pool))  # type: ignore[arg-type]

        async def serve() -> None:
            await group.start(worker.run)
            ready.set()

        group.start_soon(serve)
        with anyio.fail_after(10):
            await ready.wait()
        group.cancel_scope.cancel()


class _Without:
    """A bus on which the stream is not there at first."""

    def __init__(self, bus: NatsBus) -> None:
        self._bus = bus
        self._asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    async def consume(self, stream: str, *args: Any, **options: Any) -> Any:
        self._asked += 1
        return await self._bus.consume(stream if self._asked > 1 else "ABSENT", *args, **options)


async def _served(group: Any, bus: NatsBus, handlers: Handlers, rig: Rig) -> None:
    await Worker(bus, handlers, WorkerConfig(pool=rig.pool)).run()


async def test_progress_is_said_of_a_step_that_takes_a_while(rig: Rig) -> None:
    handlers, heard = Handlers(), []

    @handlers.handler("slow")
    async def slow(values: dict[str, Any], step: Step) -> dict[str, Any]:
        await anyio.sleep(0.2)
        await step.progress("half", 0.5)
        return {}

    @handlers.handler("fast")
    async def fast(values: dict[str, Any]) -> dict[str, Any]:
        return {}

    async def on_progress(message: Any) -> None:
        heard.append(message)

    subscription = await rig.bus.subscribe(f"{subjects.ROOT}.progress.>", on_progress)
    async with rig.worker(handlers):
        fast_task, slow_task = rig.task("fast"), rig.task("slow")
        for task in (fast_task, slow_task):
            await rig.send(task)
            await rig.outcome(task)
    await subscription.close()
    about = [message.subject for message in heard]
    assert about.count(subjects.progress(slow_task.session, "0", 1)) == 2
    assert not about.count(subjects.progress(fast_task.session, "0", 1))
