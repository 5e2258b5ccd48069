"""A worker's process dies: what it held goes on elsewhere at once, and nothing is left of it."""

from __future__ import annotations

import os
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from dspex_bus import Message, NatsBus, subjects
from dspex_bus.wire import (
    StepFailed,
    StepLost,
    StepOutcome,
    StepSucceeded,
    StepTimedOut,
    Task,
    TokenMessage,
    TokensEnded,
    TokensStarted,
    WorkerClaims,
    decode_outcome,
    decode_tokens,
    encode,
)
from dspex_services.supervisor import neighbours
from dspex_services.supervisor.neighbours import Neighbours

from ..rig import Rig
from .supervised import Holds, gone, since, spec, supervised
from .work import unruly

pytestmark = pytest.mark.anyio


async def test_a_killed_workers_task_is_begun_elsewhere_at_once(rig: Rig) -> None:
    """Its ack wait would be a minute."""
    async with supervised(rig, size=2, slots=1), Holds(rig).watching() as holds:
        tasks = [rig.task("hold", {"tell": holds.subject}) for _ in range(2)]
        for number, task in enumerate(tasks):
            await rig.send(task)
            await holds.until(number + 1)
        first, second = await holds.until(2)
        await holds.let_go(1)
        await rig.outcome(tasks[1])
        began = time.monotonic()
        os.kill(first, signal.SIGKILL)
        assert (await holds.until(3, within_s=5))[2] == second
        assert since(began) < 2
        await holds.let_go(2)
        for task in tasks:
            assert isinstance(await rig.outcome(task), StepSucceeded)
        await rig.bus.publish(subjects.ROLL_CALL)
        await rig.until(lambda: any(said.redelivered == 1 for said in rig.presences))
        assert any((said.state, said.pid) == ("leaving", 0) for said in rig.presences)


async def test_direct_calls_of_a_killed_worker_are_answered_and_their_tokens_ended(rig: Rig) -> None:
    """Nothing of them is stored, and whoever asked would wait until his patience ends: also those that had no slot yet,
    and the one whose task is large and was not fetched yet."""
    async with supervised(rig, slots=1), Holds(rig).watching() as holds:
        large = {"tell": holds.subject, "text": "x" * (rig.bus.max_payload + 1)}
        tasks = [
            rig.task("hold", {"tell": holds.subject}, stream=True, timeout_ms=60_000),
            rig.task("hold", {"tell": holds.subject}, stream=True, timeout_ms=60_000),
            rig.task("hold", large, timeout_ms=60_000),
        ]
        said: dict[str, list[TokenMessage]] = {}

        async def hear(message: Message) -> None:
            said.setdefault(message.subject, []).append(decode_tokens(message.data, subject=message.subject))

        streams = [subjects.token_stream(task.session, task.node, task.attempt) for task in tasks[:2]]
        listening = [await rig.bus.subscribe(tokens, hear) for tokens in streams]
        answers: list[StepOutcome] = []

        async def ask(task: Task) -> None:
            answer = await rig.claims.request(subjects.now(rig.pool, "hold"), encode(task), timeout_s=30)
            answers.append(decode_outcome(answer.data, subject=answer.subject))

        async with anyio.create_task_group() as group:
            group.start_soon(ask, tasks[0])
            (pid,) = await holds.until(1)
            for task in tasks[1:]:
                group.start_soon(ask, task)
            await rig.seen(lambda: rig.presences and rig.presences[-1].waiting == 2)
            began = time.monotonic()
            os.kill(pid, signal.SIGKILL)
        assert since(began) < 10
        assert len(answers) == 3
        for answer in answers:
            assert isinstance(answer, StepFailed)
            assert (answer.error.code, answer.error.retryable) == ("unavailable", True)
        for tokens in streams:
            assert [type(one) for one in said[tokens]][-2:] == [TokensStarted, TokensEnded]
        for one in listening:
            await one.close()


async def test_what_was_on_its_way_to_a_killed_worker_comes_at_once_too(rig: Rig) -> None:
    """It was in the worker's socket, and no claim tells of it."""
    async with supervised(rig):
        pid = (await rig.run("echo")).outputs["pid"]
        os.kill(pid, signal.SIGSTOP)
        task = rig.task("echo")
        await rig.send(task)
        with anyio.fail_after(5):
            while not (await rig.counts())["ack_pending"]:
                await anyio.sleep(0.02)
        os.kill(pid, signal.SIGKILL)
        assert (await rig.outcome(task, within_s=5)).outputs["pid"] != pid


@pytest.mark.slow
@pytest.mark.parametrize("whose", ["another supervisor's", "nobody's"])
async def test_what_others_run_is_left_alone_when_a_worker_dies(rig: Rig, whose: str) -> None:
    async with Holds(rig).watching() as holds, AsyncExitStack() as others:
        if whose == "nobody's":
            await others.enter_async_context(rig.worker(unruly.handlers))
        else:
            await others.enter_async_context(supervised(rig))
        task = rig.task("hold", {"tell": holds.subject})
        await rig.send(task)
        (there,) = await holds.until(1)
        async with supervised(rig, slots=1):
            await rig.until(lambda: len({said.worker for said in rig.presences}) == 2)
            (dies,) = {said.pid for said in rig.presences} - {there}
            os.kill(dies, signal.SIGKILL)
            await anyio.sleep(4)  # nothing may be given back, and silence is noticed after three seconds
        assert len(holds.began) == 1
        await holds.let_go(0)
        assert (await rig.outcome(task)).outputs == {"pid": there}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["exit", "fault", "memory"])
async def test_a_crash_costs_one_redelivery(rig: Rig, tmp_path: Path, how: str) -> None:
    async with supervised(rig) as supervisor:
        first = rig.task("die", {"how": how, "first": str(tmp_path / "first")})
        await rig.send(first)
        outcome = await rig.outcome(first)
        assert isinstance(outcome, StepSucceeded)
        await rig.bus.publish(subjects.ROLL_CALL)
        await rig.until(lambda: rig.presences[-1].redelivered == 1)
        assert supervisor.restarts == 1


async def test_a_dying_workers_last_words_are_passed_on(
    rig: Rig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = "".join(f"line {number}\n" for number in range(500)) + "and that was all"
    async with supervised(rig):
        await rig.run("die", {"how": "exit", "first": str(tmp_path / "first"), "last_words": words})
    said = capfd.readouterr().err
    assert f"[{rig.pool}] line 0\n" in said
    assert f"[{rig.pool}] line 499\n[{rig.pool}] and that was all\n" in said


async def test_what_a_worker_had_started_dies_with_it(rig: Rig) -> None:
    async with supervised(rig):
        started = (await rig.run("spawn")).outputs
        os.kill(started["pid"], signal.SIGKILL)
        await gone([started["pid"], *started["children"]])


@pytest.mark.slow
async def test_what_a_worker_had_started_ends_when_it_drains(rig: Rig) -> None:
    async with supervised(rig):
        started = (await rig.run("spawn")).outputs
    await gone([started["pid"], *started["children"]], within_s=1)


@pytest.mark.slow
async def test_nothing_is_lost_while_a_worker_is_killed_every_second(rig: Rig) -> None:
    taken: list[float] = []

    async def flow() -> None:
        while flowing:
            began = time.monotonic()
            assert isinstance(await rig.run("slow"), StepSucceeded)
            taken.append(since(began))

    flowing = True
    async with supervised(rig, size=3, slots=8) as supervisor:
        await rig.until(lambda: len({said.pid for said in rig.presences}) == 3)
        async with anyio.create_task_group() as group:
            for _ in range(16):
                group.start_soon(flow)
            killed: set[int] = set()
            for _ in range(8):
                await anyio.sleep(1)  # as often as that
                (*_, pid) = [said.pid for said in rig.presences if said.pid and said.pid not in killed]
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            flowing = False
        assert supervisor.restarts == 8
    assert len(taken) > 100
    assert max(taken) < 8  # their ack wait would be a minute


@pytest.mark.slow
async def test_a_task_that_kills_its_worker_takes_no_other_task_with_it(rig: Rig) -> None:
    """They run beside it in the pool's only worker, and for longer than it lives."""
    async with supervised(rig, slots=8) as supervisor:
        tasks = [rig.task("slow") for _ in range(6)]
        poison = rig.task("poison")
        for task in (*tasks[:3], poison, *tasks[3:]):
            await rig.send(task)
        outcome = await rig.outcome(poison, within_s=30)
        assert isinstance(outcome, StepLost)
        for task in tasks:
            assert isinstance(await rig.outcome(task, within_s=30), StepSucceeded)
        assert supervisor.restarts == 3
        assert await rig.dead(poison) is not None


@pytest.mark.slow
async def test_a_task_that_kills_its_worker_is_lost_at_its_third_delivery(rig: Rig) -> None:
    async with supervised(rig) as supervisor:
        outcome = await rig.run("poison")
        assert isinstance(outcome, StepLost)
        assert (outcome.deliveries, supervisor.restarts) == (3, 2)


@pytest.mark.slow
async def test_a_task_that_workers_give_back_as_they_drain_is_not_lost(rig: Rig) -> None:
    async with Holds(rig).watching() as holds:
        task = rig.task("hold", {"tell": holds.subject})
        await rig.send(task)
        for count in range(1, 5):
            async with supervised(rig, drain_s=0.1):
                await holds.until(count)
        async with supervised(rig):
            await holds.until(5)
            await holds.let_go(4)
            assert isinstance(await rig.outcome(task), StepSucceeded)


@pytest.mark.slow
async def test_a_hung_thread_delays_the_end_by_a_moment(rig: Rig) -> None:
    async with supervised(rig, drain_s=20):
        assert isinstance(await rig.run("block", timeout_ms=300), StepTimedOut)
        began = time.monotonic()
    assert since(began) < 6


async def test_a_silent_machines_tasks_are_given_back_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three supervisors, two of them with the pool; the one that falls silent had told what its worker held."""
    monkeypatch.setattr(neighbours, "SILENT_S", 0.6)
    monkeypatch.setattr(neighbours, "HEARTBEAT_S", 0.25)
    given: list[tuple[str, str]] = []
    claims = [WorkerClaims(worker="w", pool=rig.pool, receipts=("one", "two"))]

    class Giving(NatsBus):
        async def give_back(self, receipt: str) -> None:
            given.append((self.name, receipt))
            rig.changed()

    async with Giving(rig.url, name="a") as a, Giving(rig.url, name="b") as b, Giving(rig.url, name="0") as other:
        group = anyio.create_task_group()
        async with group:
            await group.start(Neighbours(a, "a", [rig.pool], lambda: []).run)
            await group.start(Neighbours(b, "b", [rig.pool], lambda: []).run)
            await group.start(Neighbours(other, "0", ["another"], lambda: []).run)
            async with NatsBus(rig.url, name="hangs") as silent, anyio.create_task_group() as hanging:
                await hanging.start(Neighbours(silent, "c", [rig.pool], lambda: claims).run)
                await anyio.sleep(0.5)  # nothing may be given back while it is heard
                assert not given
                monkeypatch.setattr(silent, "publish", _nothing)  # cut off, and not told of it
                await rig.until(lambda: len(given) == 2)
                assert given == [("a", "one"), ("a", "two")]
                hanging.cancel_scope.cancel()
            group.cancel_scope.cancel()
    assert len(given) == 2


@pytest.mark.slow
async def test_whoever_leaves_is_not_taken_for_silent(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "SILENT_S", 0.4)
    given: list[str] = []

    class Giving(NatsBus):
        async def give_back(self, receipt: str) -> None:
            given.append(receipt)

    claims = [WorkerClaims(worker="w", pool=rig.pool, receipts=("one",))]
    async with Giving(rig.url, name="a") as a, NatsBus(rig.url) as b, anyio.create_task_group() as group:
        await group.start(Neighbours(a, "a", [rig.pool], lambda: []).run)
        async with anyio.create_task_group() as leaving:
            await leaving.start(Neighbours(b, "b", [rig.pool], lambda: claims).run)
            await anyio.sleep(0.3)  # what it holds is told
            leaving.cancel_scope.cancel()
        await anyio.sleep(0.8)  # nothing may be given back: twice what a silent one is given
        group.cancel_scope.cancel()
    assert not given


async def _nothing(*_: object, **__: object) -> None:
    pass


@pytest.mark.slow
async def test_a_machine_that_hangs_loses_its_tasks_within_three_heartbeats(rig: Rig) -> None:
    """Its supervisor and its worker are stopped, and come back when somebody else has begun its task."""
    from .test_supervisor import supervising

    with supervising(rig, spec(rig)) as other:
        async with Holds(rig).watching() as holds:
            task = rig.task("hold", {"tell": holds.subject})
            await rig.send(task)
            (worker,) = await holds.until(1)
            async with supervised(rig):
                await anyio.sleep(1)  # what the worker holds is told
                stopped = [other.pid, worker]
                for pid in stopped:
                    os.kill(pid, signal.SIGSTOP)
                try:
                    began = time.monotonic()
                    await holds.until(2, within_s=10)
                    assert since(began) < 3.5  # three of a worker's, and something for a busy machine
                    await holds.let_go(1)
                    assert isinstance(await rig.outcome(task), StepSucceeded)
                finally:
                    for pid in stopped:
                        os.kill(pid, signal.SIGCONT)
                await holds.let_go(0)
                await rig.until(lambda: any(said.late == 1 and said.pid == worker for said in rig.presences))


@pytest.mark.slow
async def test_a_worker_that_comes_back_after_its_ack_wait_changes_nothing(rig: Rig) -> None:
    """It is suspended in mid-task; somebody else has done the task when it goes on."""
    async with supervised(rig, size=2, slots=1, ack_wait_s=1.0), Holds(rig).watching() as holds:
        task = rig.task("hold", {"tell": holds.subject})
        await rig.send(task)
        (suspended,) = await holds.until(1)
        os.kill(suspended, signal.SIGSTOP)
        try:
            other = (await holds.until(2))[1]
            await holds.let_go(1)
            assert (await rig.outcome(task)).outputs == {"pid": other}
        finally:
            os.kill(suspended, signal.SIGCONT)
        await holds.let_go(0)
        await rig.until(lambda: any((said.pid, said.late) == (suspended, 1) for said in rig.presences))
        assert decode_outcome((stored := await rig.stored(task)).data, subject=stored.subject).outputs == {"pid": other}
        await rig.queue_empty()
        for _ in range(4):  # both serve
            assert isinstance(await rig.run("echo"), StepSucceeded)
        assert all(said.late == 0 for said in rig.presences if said.pid != suspended)
