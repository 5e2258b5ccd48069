"""Tasks that come again, that cannot be read, and that nobody wants any more."""

from __future__ import annotations

import json
import threading
from typing import Any

import anyio
import pytest

from dspex_bus import Delivery, names, subjects
from dspex_bus.errors import Disconnected
from dspex_bus.streams import DEAD_LETTERS, TASKS
from dspex_bus.wire import (
    RESENT,
    SENT,
    SessionEnded,
    StepCancelled,
    StepFailed,
    StepLost,
    StepSucceeded,
    Task,
    encode,
    encode_event,
)
from dspex_services.handlers import Handlers, Step
from dspex_services.worker import WorkerConfig, unrunnable

from ..rig import Rig, now_ms

pytestmark = pytest.mark.anyio


class Counting:
    def __init__(self) -> None:
        self.handlers = Handlers()
        self.runs: list[str] = []
        self.changed = anyio.Event()
        self.go = anyio.Event()

        @self.handlers.handler("count")
        async def count(values: dict[str, Any], step: Step) -> dict[str, Any]:
            self.runs.append(step.session)
            return {"run": len(self.runs)}

        @self.handlers.handler("hold")
        async def hold(values: dict[str, Any], step: Step) -> dict[str, Any]:
            self.runs.append(step.session)
            self.changed.set()
            await self.go.wait()
            return {"run": len(self.runs)}


async def delivered_in_vain(rig: Rig, task: Task, times: int) -> None:
    """Take the task that often and give it back, as workers that die would."""
    came = anyio.Event()
    count = 0

    async def on_delivery(delivery: Delivery) -> None:
        nonlocal count
        count += 1
        assert delivery.deliveries == count
        await delivery.nak()
        if count < times:
            await consumer.want(1)
        else:
            came.set()

    durable, lane = subjects.durable(rig.pool), subjects.lane_tasks(rig.pool)
    consumer = await rig.bus.consume(TASKS, durable, lane, on_delivery, ack_wait_s=15)
    await rig.send(task)
    await consumer.want(1)
    with anyio.fail_after(10):
        await came.wait()
    await consumer.close()


async def fill(rig: Rig, task: Task) -> None:
    data, headers = encode_event(StepCancelled(reason="somebody was faster"), rig.slot(task))
    assert (await rig.bus.store_and_wait(rig.slot(task), data, headers=headers, once=True)).created


async def test_a_resent_task_whose_slot_is_filled_is_acked_without_running(rig: Rig) -> None:
    counting, task = Counting(), rig.task("count")
    await fill(rig, task)
    async with rig.worker(counting.handlers):
        await rig.send(task, {RESENT: "1"})
        await rig.run("count")
        await rig.queue_empty()
    assert task.session not in counting.runs


async def test_a_resent_task_of_a_session_that_has_ended_is_acked_without_running(rig: Rig) -> None:
    """A router that was taken for dead sends the next attempt of a session that another one has ended since."""
    counting, task = Counting(), rig.task("count", attempt=2)
    end = subjects.end(task.partition, task.session)
    await rig.claims.store_once(end, *encode_event(SessionEnded(status="cancelled"), end))
    async with rig.worker(counting.handlers):
        await rig.send(task, {RESENT: "1"})
        await rig.run("count")
        await rig.queue_empty()
    assert task.session not in counting.runs
    assert rig.slot(task) not in rig.outcomes


@pytest.mark.parametrize(("sent", "runs"), [("0", False), ("now", True), ("later", True), ("?", True)])
async def test_a_task_that_was_long_under_way_is_looked_up(rig: Rig, sent: str, runs: bool) -> None:
    """Its router was cut off when it sent it, and the session's new owner has ended that meanwhile."""
    counting, task = Counting(), rig.task("count", attempt=2)
    end = subjects.end(task.partition, task.session)
    await rig.claims.store_once(end, *encode_event(SessionEnded(status="cancelled"), end))
    async with rig.worker(counting.handlers):
        at = {"now": now_ms(), "later": now_ms() + 60_000}
        await rig.send(task, {SENT: str(at.get(sent, sent))})
        await rig.run("count")
        await rig.queue_empty()
    assert (task.session in counting.runs) is runs


async def test_a_redelivered_task_whose_slot_is_filled_is_acked_without_running(rig: Rig) -> None:
    counting, task = Counting(), rig.task("count")
    await fill(rig, task)
    await delivered_in_vain(rig, task, 1)
    async with rig.worker(counting.handlers):
        await rig.queue_empty()
    assert not counting.runs


@pytest.mark.parametrize("headers", [None, {RESENT: "1"}])
async def test_a_task_that_was_not_done_is_run(rig: Rig, headers: dict[str, str] | None) -> None:
    counting, task = Counting(), rig.task("count")
    async with rig.worker(counting.handlers):
        await rig.send(task, headers)
        assert isinstance(await rig.outcome(task), StepSucceeded)


async def test_the_second_delivery_is_run_like_the_first(rig: Rig) -> None:
    counting, task = Counting(), rig.task("count")
    await delivered_in_vain(rig, task, 1)
    async with rig.worker(counting.handlers):
        assert (await rig.outcome(task)).outputs == {"run": 1}
        await rig.queue_empty()


async def test_the_third_delivery_is_recorded_as_lost_and_buried(rig: Rig) -> None:
    counting, task = Counting(), rig.task("count")
    await delivered_in_vain(rig, task, 2)
    async with rig.worker(counting.handlers):
        outcome = await rig.outcome(task)
        await rig.queue_empty()
    assert isinstance(outcome, StepLost)
    assert (outcome.deliveries, outcome.error.code) == (3, "worker_lost")
    assert not counting.runs
    letter = await rig.dead(task)
    assert letter.data == encode(task)
    assert json.loads(letter.headers["Dspex-Reason"])["code"] == "worker_lost"
    assert letter.headers["Dspex-Subject"] == rig.subject(task)


async def test_an_outcome_for_a_filled_slot_changes_nothing(rig: Rig) -> None:
    counting, task = Counting(), rig.task("hold")
    async with rig.worker(counting.handlers):
        await rig.send(task)
        await counting.changed.wait()
        await fill(rig, task)
        counting.go.set()
        await rig.queue_empty()
    assert isinstance(rig.outcomes[rig.slot(task)], StepCancelled)


async def test_what_comes_again_while_it_runs_is_not_run_twice(rig: Rig) -> None:
    """As after a server's restart, when the router sends open attempts again."""
    counting, task = Counting(), rig.task("hold")
    async with rig.worker(counting.handlers, slots=2):
        await rig.send(task)
        with anyio.fail_after(10):
            await counting.changed.wait()
        await rig.bus.purge(TASKS, rig.subject(task))
        await rig.send(task, {RESENT: "1"})
        assert isinstance(await rig.run("count"), StepSucceeded)
        counting.go.set()
        assert isinstance(await rig.outcome(task), StepSucceeded)
        await rig.queue_empty()
        for _ in range(2):  # both slots are free again
            assert isinstance(await rig.run("count"), StepSucceeded)
    assert counting.runs.count(task.session) == 1


@pytest.mark.parametrize("body", [b"", b"{", b"[1, 2]", b'{"session": "s"}', b"\xff\xfe", b"[" * 100_000])
async def test_a_malformed_task_is_buried_and_its_session_goes_on(rig: Rig, body: bytes) -> None:
    session = f"bad-{rig.pool}"
    async with rig.worker(Counting().handlers):
        await rig.bus.store_and_wait(subjects.task(rig.pool, "normal", session, "0", 1), body, once=True)
        slot = subjects.outcome(subjects.partition_of(session, 16), session, rig.pool, "0", 1)
        await rig.until(lambda: slot in rig.outcomes)
        outcome = rig.outcomes[slot]
        assert isinstance(outcome, StepFailed)
        assert outcome.error.code == "malformed_message"
        letter = await rig.bus.last(DEAD_LETTERS, subjects.dead(rig.pool, session, "0", 1))
        assert letter is not None
        assert letter.data == body
        assert isinstance(await rig.run("count"), StepSucceeded)
        await rig.queue_empty()


async def test_a_task_that_belongs_elsewhere_is_malformed(rig: Rig) -> None:
    """Its outcome would be written into another session's journal."""
    counting, task = Counting(), rig.task("count")
    session = f"other-{rig.pool}"
    async with rig.worker(counting.handlers):
        await rig.bus.store_and_wait(subjects.task(rig.pool, "normal", session, "0", 1), encode(task), once=True)
        slot = subjects.outcome(subjects.partition_of(session, 16), session, rig.pool, "0", 1)
        await rig.until(lambda: slot in rig.outcomes)
        await rig.queue_empty()
    assert rig.slot(task) not in rig.outcomes
    assert not counting.runs


@pytest.mark.parametrize("rest", ["only", "session.node.first", "session.node.1.more"])
async def test_a_message_on_no_tasks_subject_is_buried(rig: Rig, rest: str) -> None:
    async with rig.worker(Counting().handlers):
        await rig.bus.store_and_wait(f"{subjects.lane_tasks(rig.pool)[:-1]}{rest}", b"what", once=True)
        await rig.queue_empty()
        letters = [letter async for letter in rig.bus.history(DEAD_LETTERS, subjects.dead_letters(rig.pool))]
        assert [letter.data for letter in letters] == [b"what"]
        assert subjects.split_dead(letters[0].subject)[:3] == (rig.pool, "unknown", "unknown")
        assert letters[0].headers["Dspex-Subject"].endswith(rest)
        assert isinstance(await rig.run("count"), StepSucceeded)


async def test_a_malformed_task_too_large_for_a_dead_letter_is_buried_without_its_body(rig: Rig) -> None:
    session = f"large-{rig.pool}"
    async with rig.worker(Counting().handlers):
        subject = subjects.task(rig.pool, "normal", session, "0", 1)
        await rig.bus.store_and_wait(subject, b"x" * (rig.bus.max_payload - 100), once=True)
        slot = subjects.outcome(subjects.partition_of(session, 16), session, rig.pool, "0", 1)
        await rig.until(lambda: slot in rig.outcomes)
        letter = await rig.bus.last(DEAD_LETTERS, subjects.dead(rig.pool, session, "0", 1))
        assert letter is not None
        assert letter.data == b""
        await rig.queue_empty()


async def test_a_session_ends_even_when_no_dead_letter_can_be_kept(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unrunnable.subjects, "dead", lambda *_: "kept.by.no.stream")
    counting, task = Counting(), rig.task("count")
    await delivered_in_vain(rig, task, 2)
    async with rig.worker(counting.handlers):
        assert isinstance(await rig.outcome(task, within_s=20), StepLost)
        await rig.queue_empty()


async def test_a_cancelled_attempt_is_abandoned_without_an_outcome(rig: Rig) -> None:
    counting, task = Counting(), rig.task("hold")
    async with rig.worker(counting.handlers, slots=1) as worker:
        await rig.send(task)
        with anyio.fail_after(10):
            await counting.changed.wait()
        await rig.bus.publish(subjects.cancelled(task.session))
        await rig.queue_empty()
        assert worker.busy == 0
        assert isinstance(await rig.run("count"), StepSucceeded)
    assert await rig.stored(task) is None


async def test_a_task_of_a_cancelled_session_is_not_started(rig: Rig) -> None:
    counting, task = Counting(), rig.task("count")
    async with rig.worker(counting.handlers):
        await rig.bus.publish(subjects.cancelled(task.session))
        await rig.run("count")  # by now it has been heard
        await rig.send(task)
        await rig.run("count")
        await rig.queue_empty()
    assert task.session not in counting.runs
    assert await rig.stored(task) is None


async def test_a_blocking_attempt_is_abandoned_at_once(rig: Rig) -> None:
    handlers = Handlers()
    inside, go = threading.Event(), threading.Event()

    @handlers.handler("block")
    def block(values: dict[str, Any]) -> dict[str, Any]:
        inside.set()
        go.wait(20)
        return {}

    task = rig.task("block")
    async with rig.worker(handlers):
        await rig.send(task)
        assert await anyio.to_thread.run_sync(inside.wait, 10)
        await rig.bus.publish(subjects.cancelled(task.session))
        await rig.queue_empty()
        go.set()
    assert await rig.stored(task) is None


def test_a_worker_is_named_after_its_host_and_process() -> None:
    one, other = WorkerConfig(pool="p"), WorkerConfig(pool="p")
    assert one.name != other.name
    assert names.token(one.name, "worker") == one.name


@pytest.mark.parametrize("error", [Disconnected("away"), ValueError("a mistake of ours")])
async def test_what_a_worker_fails_to_see_to_goes_back_and_is_run(
    rig: Rig, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting()
    async with rig.worker(counting.handlers, slots=1) as worker:
        execute, failed = worker.execute, False

        async def fails_once(task: Task) -> Any:
            nonlocal failed
            if not failed:
                failed = True
                raise error
            return await execute(task)

        monkeypatch.setattr(worker, "execute", fails_once)
        assert (await rig.run("count")).outputs == {"run": 1}
        assert failed
        await rig.queue_empty()
