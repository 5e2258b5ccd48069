"""Tasks and outcomes that are too large for a message."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from dspex_bus import subjects
from dspex_bus.claim import LARGE_BYTES
from dspex_bus.streams import OBJECTS
from dspex_bus.wire import RESENT, ErrorInfo, StepFailed, StepSucceeded, Task, encode, encode_event
from dspex_services.handlers import Handlers

from ..rig import Rig

pytestmark = pytest.mark.anyio

TEXT = "x" * 1_000_000


class Echo:
    def __init__(self) -> None:
        self.handlers = Handlers()
        self.go = asyncio.Event()
        self.ran = 0
        self.handlers.handler("echo")(self.echo)

    async def echo(self, values: dict[str, Any]) -> dict[str, Any]:
        self.ran += 1
        await self.go.wait()
        return values


def placed(rig: Rig, name: str) -> Task:
    """A task in the partition where its session belongs."""
    session = f"{name}-{rig.pool}"
    return rig.task("echo", {"text": TEXT}, session=session, partition=subjects.partition_of(session, 16))


@pytest.fixture
def echo() -> Echo:
    return Echo()


async def test_a_large_task_and_its_large_outcome(rig: Rig, echo: Echo) -> None:
    task = rig.task("echo", {"text": TEXT})
    echo.go.set()
    async with rig.worker(echo.handlers):
        await rig.send(task)
        assert (await rig.outcome(task)).outputs == {"text": TEXT}
        await rig.queue_empty()
        with anyio.fail_after(10):
            while await rig.objects(task) != ["step"]:  # the task's own is not needed any more
                await anyio.sleep(0.01)


async def test_an_outcome_that_comes_second_leaves_no_object(rig: Rig, echo: Echo) -> None:
    task = rig.task("echo", {"text": TEXT})
    async with rig.worker(echo.handlers):
        await rig.send(task)
        with anyio.fail_after(10):
            while not echo.ran:
                await anyio.sleep(0.01)
        data, headers = encode_event(
            StepFailed(error=ErrorInfo(code="cancelled", message="somebody else decided")), rig.slot(task)
        )
        first = await rig.bus.store_and_wait(rig.slot(task), data, headers=headers, once=True)
        assert first.created
        echo.go.set()
        await rig.queue_empty()
        with anyio.fail_after(10):
            while await rig.objects(task):
                await anyio.sleep(0.01)
    assert isinstance(await rig.outcome(task), StepFailed)


async def test_a_task_whose_object_is_gone_fails_for_that_reason(rig: Rig, echo: Echo) -> None:
    task = placed(rig, "gone")
    await rig.send(task)
    (name,) = [info.name for info in await rig.bus.objects(OBJECTS).contents() if info.name.startswith(task.session)]
    await rig.bus.objects(OBJECTS).delete(name)
    async with rig.worker(echo.handlers):
        outcome = await rig.outcome(task)
        assert outcome.error.code == "object_gone"
        assert name in outcome.error.message
        await rig.queue_empty()
    assert not echo.ran
    letter = await rig.dead(task)
    assert letter.headers["Dspex-Object"] == name


async def test_a_task_that_was_done_before_is_not_missed(rig: Rig, echo: Echo) -> None:
    """Sent again after its outcome was stored and its object went with it."""
    task = placed(rig, "before")
    data, headers = encode_event(StepSucceeded(outputs={}), rig.slot(task))
    await rig.bus.store_and_wait(rig.slot(task), data, headers=headers, once=True)
    await rig.send(task, {RESENT: "1"})
    for info in await rig.bus.objects(OBJECTS).contents():
        if info.name.startswith(task.session):
            await rig.bus.objects(OBJECTS).delete(info.name)
    async with rig.worker(echo.handlers):
        await rig.queue_empty()
    assert not echo.ran
    assert await rig.dead(task) is None
    assert isinstance(await rig.outcome(task), StepSucceeded)


@pytest.mark.parametrize("gone", [False, True])
async def test_a_task_whose_outcome_is_large_is_not_run_again(rig: Rig, echo: Echo, gone: bool) -> None:
    """The outcome is beside the journal, or has been removed there: decided it is."""
    task = rig.task("echo")
    data, headers = encode_event(StepSucceeded(outputs={"text": "x" * (LARGE_BYTES + 1)}), rig.slot(task))
    await rig.claims.store_once(rig.slot(task), data, headers)
    if gone:
        for info in await rig.bus.objects(OBJECTS).contents():
            if info.name.startswith(task.session):
                await rig.bus.objects(OBJECTS).delete(info.name)
    await rig.send(task, {RESENT: "1"})
    async with rig.worker(echo.handlers):
        await rig.queue_empty()
    assert not echo.ran


async def test_a_large_call_and_its_large_answer(rig: Rig, echo: Echo) -> None:
    echo.go.set()
    task = rig.task("echo", {"text": TEXT})
    async with rig.worker(echo.handlers):
        subject = subjects.now(rig.pool, "echo")
        answer = await rig.claims.request(subject, encode(task), timeout_s=10)
        assert TEXT.encode() in answer.data
    assert not [info for info in await rig.bus.objects(OBJECTS).contents() if info.name.startswith(".said.")]
