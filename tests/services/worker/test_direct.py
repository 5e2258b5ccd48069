"""Direct calls: core request and reply to the pool."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from dspex_bus import subjects
from dspex_bus.wire import (
    StepCancelled,
    StepFailed,
    StepSucceeded,
    StepTimedOut,
    Task,
    decode_outcome,
    encode,
)
from dspex_services.handlers import Handlers

from ..rig import Rig, now_ms

pytestmark = pytest.mark.anyio


async def call(rig: Rig, task: Task | bytes, handler: str = "echo") -> Any:
    handler = task.handler if isinstance(task, Task) else handler
    subject = subjects.now(rig.pool, handler)
    data = task if isinstance(task, bytes) else encode(task)
    answer = await rig.bus.request(subject, data, timeout_s=10)
    return decode_outcome(answer.data, subject=subject)


class Some:
    def __init__(self) -> None:
        self.handlers = Handlers()
        self.inside = 0
        self.most = 0
        self.changed = anyio.Event()
        self.go = threading.Event()

        @self.handlers.handler("echo")
        async def echo(values: dict[str, Any]) -> dict[str, Any]:
            return values

        @self.handlers.handler("hold")
        async def hold(values: dict[str, Any]) -> dict[str, Any]:
            self.inside += 1
            self.most = max(self.most, self.inside)
            try:
                while not self.go.is_set():
                    await anyio.sleep(0.01)
            finally:
                self.inside -= 1
            return {}

        @self.handlers.handler("block")
        def block(values: dict[str, Any]) -> dict[str, Any]:
            self.go.wait(20)
            return {}

        @self.handlers.handler("swell")
        def swell(values: dict[str, Any]) -> dict[str, Any]:
            return {"text": "x" * values["size"]}

        @self.handlers.handler("exit")
        def leave(values: dict[str, Any]) -> dict[str, Any]:
            raise SystemExit(values.get("code", 0))


async def test_a_call_is_answered(rig: Rig) -> None:
    async with rig.worker(Some().handlers, name="ada"):
        outcome = await call(rig, rig.task("echo", {"a": None}))
        assert isinstance(outcome, StepSucceeded)
        assert (outcome.outputs, outcome.worker) == ({"a": None}, "ada")


async def test_calls_are_shared_among_the_pool(rig: Rig) -> None:
    async with rig.worker(Some().handlers, name="ada"), rig.worker(Some().handlers, name="bob"):
        workers = {(await call(rig, rig.task("echo"))).worker for _ in range(60)}
        assert workers == {"ada", "bob"}


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"handler": "echo"}'])
async def test_a_malformed_call_is_told_so(rig: Rig, data: bytes) -> None:
    async with rig.worker(Some().handlers):
        outcome = await call(rig, data)
        assert isinstance(outcome, StepFailed)
        assert outcome.error.code == "malformed_message"


async def test_at_most_as_many_run_as_there_are_slots_and_the_rest_wait(rig: Rig) -> None:
    some, outcomes = Some(), []

    async def one() -> None:
        outcomes.append(await call(rig, rig.task("hold")))

    async with rig.worker(some.handlers, slots=2), anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(one)
        await rig.seen(lambda: rig.presences and rig.presences[-1].busy == 2)
        some.go.set()
    assert some.most == 2
    assert [type(outcome) for outcome in outcomes] == [StepSucceeded] * 6


async def test_past_the_waiting_room_a_call_is_refused_at_once(rig: Rig) -> None:
    some, outcomes = Some(), []

    async def one() -> None:
        outcomes.append(await call(rig, rig.task("hold")))

    async with rig.worker(some.handlers, slots=1, waiting=2), anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(one)
        await rig.seen(lambda: rig.presences and rig.presences[-1].busy == 1)
        refused = await call(rig, rig.task("echo"))
        assert refused.error.code == "overloaded"
        assert refused.error.retryable
        assert refused.error.details["retry_after_s"] == 1
        some.go.set()
    assert [type(outcome) for outcome in outcomes] == [StepSucceeded] * 3


async def test_a_thread_that_overruns_keeps_its_slot(rig: Rig) -> None:
    some = Some()
    async with rig.worker(some.handlers, slots=1, waiting=0) as worker:
        assert isinstance(await call(rig, rig.task("block", timeout_ms=100)), StepTimedOut)
        assert (await call(rig, rig.task("echo"))).error.code == "overloaded"
        some.go.set()
        with anyio.fail_after(10):
            while worker.busy:
                await anyio.sleep(0.01)
        assert isinstance(await call(rig, rig.task("echo")), StepSucceeded)


async def test_a_reply_larger_than_a_message_says_what_was_large(rig: Rig) -> None:
    async with rig.worker(Some().handlers):
        outcome = await call(rig, rig.task("swell", {"size": 2_000_000}))
        assert isinstance(outcome, StepFailed)
        assert outcome.error.code == "payload_too_large"
        assert "text" in outcome.error.message


async def test_a_handler_that_exits_fails_its_call_alone(rig: Rig) -> None:
    async with rig.worker(Some().handlers):
        assert (await call(rig, rig.task("exit"))).error.code == "handler_error"
        assert isinstance(await call(rig, rig.task("echo")), StepSucceeded)


async def test_past_its_deadline_a_call_is_not_started(rig: Rig) -> None:
    async with rig.worker(Some().handlers):
        outcome = await call(rig, rig.task("swell", {"no": "size"}, deadline_ms=now_ms() - 1))
        assert isinstance(outcome, StepTimedOut)


async def test_a_cancelled_call_is_told_so(rig: Rig) -> None:
    task = rig.task("hold")
    async with rig.worker(Some().handlers), anyio.create_task_group() as group:

        async def cancel() -> None:
            await rig.seen(lambda: rig.presences and rig.presences[-1].busy == 1)
            await rig.bus.publish(subjects.cancelled(task.session))

        group.start_soon(cancel)
        assert isinstance(await call(rig, task), StepCancelled)


async def test_a_worker_that_has_to_leave_tells_its_callers(rig: Rig) -> None:
    outcomes: list[Any] = []

    async def one() -> None:
        outcomes.append(await call(rig, rig.task("hold")))

    async with anyio.create_task_group() as group, rig.worker(Some().handlers, slots=1, drain_s=0.2):
        for _ in range(2):  # one runs, one waits
            group.start_soon(one)
        await rig.seen(lambda: rig.presences and rig.presences[-1].busy == 1)
    assert [(outcome.error.code, outcome.error.retryable) for outcome in outcomes] == [("unavailable", True)] * 2
