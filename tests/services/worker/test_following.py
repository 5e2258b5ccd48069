"""Steps that travel with a task: run after it in the same worker, and told with it."""

from __future__ import annotations

import threading
import time
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from dspex_bus import subjects
from dspex_bus.errors import PayloadTooLarge
from dspex_bus.wire import (
    Followed,
    Following,
    Progress,
    StepFailed,
    StepSucceeded,
    Unwanted,
    encode,
)
from dspex_bus.wire import decode as decode_message
from dspex_services.handlers import Handlers, Step
from dspex_services.worker import stored
from dspex_services.worker.unrunnable import smaller

from ..rig import Rig, now_ms
from .test_redelivery import delivered_in_vain

pytestmark = pytest.mark.anyio


class Number(msgspec.Struct, frozen=True, kw_only=True):
    n: int


class Text(msgspec.Struct, frozen=True, kw_only=True):
    text: str


class Row:
    """Handlers that note what they did and where."""

    def __init__(self) -> None:
        self.handlers = Handlers()
        self.ran: list[str] = []
        self.threads: list[int] = []
        self.there, self.told = anyio.Event(), anyio.Event()
        offer = self.handlers.handler

        @offer("add", pure=True)
        async def add(request: Number, step: Step) -> Number:
            self.ran.append(step.node)
            return Number(n=request.n + 1)

        @offer("add_in_thread", pure=True)
        def add_in_thread(request: Number) -> Number:
            self.threads.append(threading.get_ident())
            return Number(n=request.n + 1)

        @offer("fail", pure=True)
        async def fail(values: dict[str, Any]) -> dict[str, Any]:
            self.ran.append("fail")
            raise ValueError("no")

        @offer("swell", pure=True)
        async def swell(request: Number) -> Text:
            return Text(text="x" * request.n)

        @offer("hang", pure=True)
        async def hang(values: dict[str, Any]) -> dict[str, Any]:
            self.there.set()
            await anyio.sleep_forever()
            return {}

        @offer("stubborn", pure=True)
        async def stubborn(values: dict[str, Any]) -> dict[str, Any]:
            while not self.told.is_set():
                try:
                    await self.told.wait()
                except BaseException:  # that is what is stubborn about it
                    continue
            return {}

        @offer("block", pure=True)
        def block(values: dict[str, Any]) -> dict[str, Any]:
            self.threads.append(threading.get_ident())
            time.sleep(0.4)
            return {}

        @offer("spoil", pure=True)
        async def spoil(values: dict[str, Any]) -> dict[str, Any]:
            seen = list(values["list"])
            values["list"].append("spoilt")
            return {"seen": seen, "pair": (1, 2)}


def follow(node: str, handler: str, **more: Any) -> Following:
    return Following(node=node, handler=handler, **{"reads": {"n": "n"}, "timeout_ms": 10_000, **more})


async def run(rig: Rig, row: Row, *then: Following, within_s: float = 10, **more: Any) -> Any:
    values: dict[str, Any] = {"inputs": {"n": 0}, "context": {"n": 7}, **more}
    async with rig.worker(row.handlers, slots=1):
        task = rig.task("add", then=then, **values)
        await rig.send(task)
        outcome = await rig.outcome(task, within_s)
        await rig.queue_empty()
    return outcome


def nodes(outcome: Any) -> list[str]:
    return [followed.node for followed in outcome.then]


async def test_each_reads_what_those_before_wrote(rig: Rig) -> None:
    row = Row()
    outcome = await run(
        rig,
        row,
        follow("1", "add"),
        follow("2", "add", reads={"n": "kept.n"}, writes={"n": "m"}),
        follow("3", "add", reads={"n": "m", "x": "absent"}, optional=("x",), save_as="last"),
        follow("4", "add", reads={"n": "last.n"}, options={"n": 40}),
        follow("5", "spoil", reads={}, reads_all=True, options={"list": []}),
        context={"kept": {"n": 30}, "n": 7},
    )
    assert outcome.outputs == {"n": 1}
    assert [followed.outputs for followed in outcome.then[:4]] == [{"n": 2}, {"n": 31}, {"n": 32}, {"n": 41}]
    assert nodes(outcome) == ["1", "2", "3", "4", "5"]
    assert row.ran == ["0", "1", "2", "3", "4"]
    assert all(0 <= followed.started_ms - outcome.started_ms < 5_000 for followed in outcome.then)


async def test_what_the_first_writes_is_renamed_for_the_others(rig: Rig) -> None:
    outcome = await run(rig, Row(), follow("1", "add", reads={"n": "first.m"}), writes={"n": "m"}, save_as="first")
    assert outcome.then[0].outputs == {"n": 2}


async def test_those_that_block_run_in_one_thread(rig: Rig) -> None:
    row = Row()
    blocking = [follow(str(place), "add_in_thread") for place in range(1, 5)]
    outcome = await run(rig, row, *blocking, follow("5", "add"), follow("6", "add_in_thread"))
    assert outcome.then[-1].outputs == {"n": 7}
    assert len(row.threads) == 5
    assert len(set(row.threads[:4])) == 1
    assert threading.get_ident() not in row.threads


async def test_what_a_handler_does_to_its_input_is_not_seen_by_others(rig: Rig) -> None:
    step = follow("1", "spoil", reads={"list": "list"}, save_as="a")
    again = follow("2", "spoil", reads={"list": "list"}, save_as="b")
    outcome = await run(rig, Row(), step, again, context={"list": ["fresh"]})
    assert [followed.outputs for followed in outcome.then] == [{"seen": ["fresh"], "pair": [1, 2]}] * 2


@pytest.mark.parametrize(
    "following",
    [
        follow("2", "fail"),
        follow("2", "unheard_of"),
        follow("2", "add", reads={"n": "absent"}),
        follow("2", "add", reads={"n": "text"}),
        follow("2", "swell", options={"n": 600_000}),
        follow("2", "hang", timeout_ms=100),
        follow("2", "block", timeout_ms=100),
    ],
    ids=["fails", "is unknown", "lacks a field", "cannot read one", "is large", "takes long", "blocks long"],
)
async def test_the_first_that_does_not_succeed_is_left_out_with_all_after_it(rig: Rig, following: Following) -> None:
    row = Row()
    outcome = await run(rig, row, follow("1", "add"), following, follow("3", "add"), context={"n": 7, "text": "x"})
    assert isinstance(outcome, StepSucceeded)
    assert nodes(outcome) == ["1"]
    assert "3" not in row.ran


async def test_nothing_follows_a_failure(rig: Rig) -> None:
    row = Row()
    assert isinstance(await run(rig, row, follow("1", "add"), inputs={}), StepFailed)
    assert row.ran == []


async def test_nothing_follows_past_the_deadline_of_the_run(rig: Rig) -> None:
    outcome = await run(rig, Row(), follow("1", "add"), follow("2", "hang"), deadline_ms=now_ms() + 400)
    assert nodes(outcome) == ["1"]


async def test_outcomes_that_are_too_much_for_one_message_together(rig: Rig) -> None:
    """As much as half a message holds; the first counts, however large it is."""
    large = [follow(str(place), "swell", options={"n": 200_000}) for place in range(1, 5)]
    assert nodes(await run(rig, Row(), *large)) == ["1", "2"]
    async with rig.worker((row := Row()).handlers):
        task = rig.task("swell", {"n": 900_000}, then=(follow("1", "add"),), context={"n": 1})
        await rig.send(task)
        outcome = await rig.outcome(task)
    assert len(outcome.outputs["text"]) == 900_000
    assert (nodes(outcome), row.ran) == ([], [])


async def test_one_that_does_not_obey_its_timeout_does_not_keep_the_others_back(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Row()
    then = (follow("1", "add"), follow("2", "stubborn", timeout_ms=10))
    monkeypatch.setattr(stored, "_STUBBORN_S", 0.1)
    async with rig.worker(row.handlers, ack_wait_s=0.3):
        outcome = await rig.run("add", {"n": 0}, then=then)
        row.told.set()
    assert nodes(outcome) == ["1"]


async def test_the_second_delivery_is_for_the_first_step_alone(rig: Rig) -> None:
    """So a step that kills its workers is found out as the one it is."""
    row, task = Row(), rig.task("add", {"n": 0}, then=(follow("1", "add"),), context={})
    await delivered_in_vain(rig, task, 1)
    async with rig.worker(row.handlers):
        outcome = await rig.outcome(task)
        await rig.queue_empty()
    assert (outcome.outputs, nodes(outcome), row.ran) == ({"n": 1}, [], ["0"])


async def test_an_attempt_that_nobody_wants_any_more_ends_wherever_it_is(rig: Rig) -> None:
    row = Row()
    task = rig.task("add", {"n": 0}, then=(follow("1", "hang"),), context={})
    async with rig.worker(row.handlers):
        await rig.send(task)
        with anyio.fail_after(10):
            await row.there.wait()
        await rig.bus.publish(subjects.cancelled(task.session), encode(Unwanted(attempts=(("0", 1),))))
        await rig.queue_empty()
    assert await rig.stored(task) is None


async def test_progress_is_told_of_the_step_it_is_at(rig: Rig) -> None:
    row = Row()
    task = rig.task("add", {"n": 0}, then=(follow("1", "hang", timeout_ms=300),), context={})
    told: list[Progress] = []

    async def on_progress(message: Any) -> None:
        assert message.subject == subjects.progress(task.session, "1", 1)
        told.append(decode_message(Progress, message.data, subject=message.subject))

    subscription = await rig.bus.subscribe(subjects.session_progress(task.session), on_progress)
    async with rig.worker(row.handlers):
        await rig.send(task)
        await rig.outcome(task)
    await subscription.close()
    assert len(told) == 1


async def test_a_direct_call_takes_the_others_along(rig: Rig) -> None:
    task = rig.task("add", {"n": 0}, then=(follow("1", "add"), follow("2", "fail")), context={})
    async with rig.worker(Row().handlers):
        answer = await rig.bus.request(subjects.now(rig.pool, "add"), encode(task), timeout_s=10)
    outcome = decode_message(StepSucceeded, answer.data, subject="x")
    assert outcome.then == (
        Followed(
            node="1",
            outputs={"n": 2},
            started_ms=outcome.then[0].started_ms,
            duration_us=outcome.then[0].duration_us,
        ),
    )


def test_what_cannot_be_told_in_one_message_is_told_with_fewer() -> None:
    """Only where the server carries less than the bus believed: the half is stored, and the rest sent again."""
    then = tuple(Followed(node=str(place), outputs={}) for place in range(1, 4))
    outcome, refusal = StepSucceeded(outputs={"a": 1}, then=then), PayloadTooLarge("no")
    assert smaller(outcome, refusal) == StepSucceeded(outputs={"a": 1}, then=then[:1])
    assert smaller(StepSucceeded(outputs={"a": 1}, then=then[:1]), refusal) == StepSucceeded(outputs={"a": 1})
    assert isinstance(smaller(StepSucceeded(outputs={"a": 1}), refusal), StepFailed)


async def test_handlers_that_never_wait_leave_the_loop_to_others(rig: Rig) -> None:
    handlers, seen = Handlers(), []

    @handlers.handler("spin", pure=True)
    async def spin(values: dict[str, Any]) -> dict[str, Any]:
        until = time.monotonic() + 0.003
        while time.monotonic() < until:
            pass
        seen.append(ticks)
        return {}

    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.lowlevel.checkpoint()
            ticks += 1

    then = tuple(follow(str(place), "spin", reads={}) for place in range(1, 20))
    async with rig.worker(handlers), anyio.create_task_group() as group:
        group.start_soon(tick)
        task = rig.task("spin", then=then)
        await rig.send(task)
        assert len((await rig.outcome(task)).then) == 19
        group.cancel_scope.cancel()
    assert seen[-1] - seen[0] >= 5
