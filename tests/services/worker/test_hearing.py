"""Sessions that ended while a worker could not hear of it: nothing of them is begun."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from bus.links import Link

from dspex_bus import EmbeddedServer, NatsBus, subjects
from dspex_bus.claim import Claims
from dspex_bus.errors import Unavailable
from dspex_bus.wire import Following, SessionEnded, StepSucceeded, Task, encode, encode_event
from dspex_services.handlers import Handlers, Step
from dspex_services.worker import hearing

from ..rig import Rig

pytestmark = pytest.mark.anyio

DEAF_S = 0.05


class Noting:
    """``runs`` are the sessions of the steps begun."""

    def __init__(self) -> None:
        self.handlers = Handlers()
        self.runs: list[tuple[str, str]] = []
        self.inside, self.go = anyio.Event(), anyio.Event()

        @self.handlers.handler("note", pure=True)
        async def note(values: dict[str, Any], step: Step) -> dict[str, Any]:
            self.runs.append((step.session, step.node))
            return {}

        @self.handlers.handler("hold", pure=True)
        async def hold(values: dict[str, Any], step: Step) -> dict[str, Any]:
            self.runs.append((step.session, step.node))
            self.inside.set()
            await self.go.wait()
            return {}


@pytest.fixture
def easily_deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearing, "_DEAF_S", DEAF_S)
    monkeypatch.setattr(hearing, "_LOOK_S", DEAF_S / 2)


async def end(bus: NatsBus, task: Task) -> None:
    """As another router would, whose word does not come through to the worker."""
    slot = subjects.end(task.partition, task.session)
    await Claims(bus).store_once(slot, *encode_event(SessionEnded(status="cancelled"), slot))


def while_we_stand_still(url: str, does: Callable[[NatsBus], Awaitable[None]]) -> None:
    """Like a process that is stopped, and goes on."""

    async def elsewhere() -> None:
        async with NatsBus(url, name="elsewhere") as bus:
            await does(bus)
            await asyncio.sleep(2 * DEAF_S)  # for that long we stand still

    other = threading.Thread(target=asyncio.run, args=(elsewhere(),))
    other.start()
    other.join(20)
    assert not other.is_alive()


async def test_a_task_that_was_stored_before_its_worker_came(rig: Rig) -> None:
    noting, ended, wanted = Noting(), rig.task("note"), rig.task("note")
    await rig.send(ended)
    await rig.send(wanted)
    await end(rig.bus, ended)
    async with rig.worker(noting.handlers):
        assert isinstance(await rig.outcome(wanted), StepSucceeded)
        await rig.queue_empty()
    assert [session for session, _ in noting.runs] == [wanted.session]


@pytest.mark.usefixtures("easily_deaf")
async def test_a_task_that_came_while_its_worker_stood_still(rig: Rig) -> None:
    noting, ended, wanted = Noting(), rig.task("note"), rig.task("note")

    async def meanwhile(bus: NatsBus) -> None:
        for task in (ended, wanted):
            await Claims(bus).store_once(rig.subject(task), encode(task))
        await end(bus, ended)

    async with rig.worker(noting.handlers, slots=4):
        assert isinstance(await rig.run("note"), StepSucceeded)
        noting.runs.clear()
        while_we_stand_still(rig.url, meanwhile)
        assert isinstance(await rig.outcome(wanted), StepSucceeded)
        await rig.queue_empty()
    assert [session for session, _ in noting.runs] == [wanted.session]


@pytest.mark.usefixtures("easily_deaf")
@pytest.mark.parametrize("over", [True, False])
async def test_a_step_that_travels_is_not_begun_where_the_session_ended_while_its_worker_stood_still(
    rig: Rig, over: bool
) -> None:
    noting = Noting()
    task = rig.task("hold", then=(Following(node="1", handler="note", timeout_ms=10_000),))

    async def meanwhile(bus: NatsBus) -> None:
        if over:
            await end(bus, task)

    async with rig.worker(noting.handlers):
        await rig.send(task)
        with anyio.fail_after(10):
            await noting.inside.wait()
        noting.go.set()
        while_we_stand_still(rig.url, meanwhile)
        assert isinstance(await rig.outcome(task), StepSucceeded)
    assert [node for _, node in noting.runs] == (["0"] if over else ["0", "1"])


async def test_a_task_that_was_stored_while_its_worker_s_connection_was_away() -> None:
    noting = Noting()
    async with EmbeddedServer() as server, NatsBus(server.url) as bus, Link(server.port) as line:
        rig = Rig(line.url, bus, f"p{secrets.token_hex(4)}")
        async with rig.watching(), rig.worker(noting.handlers) as worker:
            assert isinstance(await rig.run("note"), StepSucceeded)
            await rig.queue_empty()
            noting.runs.clear()
            ended, wanted = rig.task("note"), rig.task("note")
            line.cut()
            line.freeze()
            with pytest.raises(Unavailable):  # the server knows by then that it is gone
                await bus.request(subjects.probe(worker.config.name), timeout_s=0.5)
            await rig.send(ended)
            await end(bus, ended)
            await rig.send(wanted)
            line.thaw()
            assert isinstance(await rig.outcome(wanted), StepSucceeded)
            await rig.queue_empty()
    assert [session for session, _ in noting.runs] == [wanted.session]


@pytest.mark.parametrize("slow", [True, False])
async def test_an_answer_that_may_have_lain_there_is_asked_for_again(
    rig: Rig, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing, "_DEAF_S", DEAF_S)
    task = rig.task("note")
    asked = 0

    async def answer(bus: NatsBus, task: Task, pool: str) -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(2 * DEAF_S if slow and asked < 2 else 0)

    monkeypatch.setattr(hearing, "_decided", answer)
    assert await hearing.decided(rig.bus, task, rig.pool) is None
    assert asked == (2 if slow else 1)
