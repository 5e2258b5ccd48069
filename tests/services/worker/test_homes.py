"""Steps with an affinity are run by the worker that they are at home with, as long as it lives."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from dspex_bus import subjects
from dspex_bus.wire import (
    StepFailed,
    StepSucceeded,
    TokenPiece,
    TokensEnded,
    TokensStarted,
    Unwanted,
    decode_tokens,
    encode,
)
from dspex_services.handlers import Handlers, Step
from dspex_services.worker.holding import Held

from ..rig import Rig

pytestmark = pytest.mark.anyio


def shelf() -> tuple[Handlers, list[str]]:
    """Handlers that hold something for a session, and the names of the workers that made it."""
    handlers, made = Handlers(), list[str]()

    @handlers.handler("look")
    async def look(values: dict[str, Any], step: Step) -> dict[str, Any]:
        async def make() -> str:
            made.append(step.worker)
            return step.worker

        held = await step.hold("shelf", make)
        step.tell("held", held)
        if seconds := values.get("seconds"):
            await asyncio.sleep(seconds)
        return {"held": held, "on": step.worker}

    return handlers, made


@pytest.mark.parametrize("affinity", ["strict", "hint"])
async def test_whoever_gets_the_task_the_home_runs_it(rig: Rig, affinity: Any) -> None:
    handlers, made = shelf()
    async with rig.worker(handlers, name="ada"), rig.worker(handlers, name="bob"):
        for number in range(12):
            found = await rig.run("look", session="s", node=str(number), affinity=affinity, home="bob")
            assert isinstance(found, StepSucceeded)
            assert (found.worker, found.outputs) == ("bob", {"held": "bob", "on": "bob"})
        # Direct calls too.
        task = rig.task("look", session="s", affinity=affinity, home="bob")
        for _ in range(4):
            answer = await rig.bus.request(subjects.now(rig.pool, "look"), encode(task), timeout_s=5)
            assert b'"on":"bob"' in answer.data
    assert made == ["bob"]


async def test_a_home_that_is_gone_is_stood_in_for_by_another_that_makes_it_anew(rig: Rig) -> None:
    handlers, made = shelf()
    async with rig.worker(handlers, name="ada"):
        found = await rig.run("look", affinity="strict", home="long-gone")
        assert found.outputs == {"held": "ada", "on": "ada"}
    assert made == ["ada"]


async def test_a_home_that_leaves_in_the_middle(rig: Rig) -> None:
    handlers, made = shelf()
    async with rig.worker(handlers, name="ada"):
        async with rig.worker(handlers, name="bob", drain_s=0.1):
            tasks = [rig.task("look", {"seconds": 1.0}, affinity="strict", home="bob") for _ in range(4)]
            for task in tasks:
                await rig.send(task)
            with anyio.fail_after(5):
                while made.count("bob") < 4:
                    await anyio.sleep(0.01)
        assert {(await rig.outcome(task)).worker for task in tasks} == {"ada"}


async def test_a_hint_does_not_wait_for_a_home_that_is_busy_and_a_strict_step_does(rig: Rig) -> None:
    handlers, _ = shelf()
    async with rig.worker(handlers, name="ada", slots=4), rig.worker(handlers, name="bob", slots=1):
        slow = rig.task("look", {"seconds": 0.5}, affinity="strict", home="bob")
        await rig.bus.publish(subjects.home(rig.pool, "bob"), encode(slow))
        strict = rig.task("look", affinity="strict", home="bob")
        await rig.send(strict)
        hints = [rig.task("look", affinity="hint", home="bob") for _ in range(3)]
        for task in hints:
            await rig.send(task)
        assert "ada" in {(await rig.outcome(task)).worker for task in hints}
        assert (await rig.outcome(strict)).worker == "bob"


async def test_an_attempt_that_a_home_is_asked_for_twice_runs_once(rig: Rig) -> None:
    handlers = Handlers()
    runs: list[int] = []

    @handlers.handler("count")
    async def count(values: dict[str, Any]) -> dict[str, Any]:
        runs.append(1)
        await asyncio.sleep(0.2)  # a second run may begin beside it, and must not
        return {"runs": len(runs)}

    async with rig.worker(handlers, name="bob"):
        task = rig.task("count", affinity="strict", home="bob")
        asked = [rig.bus.request(subjects.home(rig.pool, "bob"), encode(task), timeout_s=5) for _ in range(3)]
        assert len({answer.data for answer in await asyncio.gather(*asked)}) == 1
    assert runs == [1]


async def test_cancelling_and_tokens_work_from_afar(rig: Rig) -> None:
    handlers, _ = shelf()
    said: list[Any] = []

    async def hear(message: Any) -> None:
        said.append(decode_tokens(message.data, subject=message.subject))
        rig.changed()

    async with rig.worker(handlers, name="ada", slots=8), rig.worker(handlers, name="bob", slots=1):
        task = rig.task("look", {"seconds": 30}, affinity="strict", home="bob", stream=True)
        await rig.bus.subscribe(subjects.token_stream(task.session, task.node, task.attempt), hear)
        await rig.send(task)
        await rig.until(lambda: any(isinstance(one, TokenPiece) for one in said))
        await rig.bus.publish(subjects.cancelled(task.session), encode(Unwanted()))
        await rig.until(lambda: isinstance(said[-1], TokensEnded))
        assert [type(one) for one in said] == [TokensStarted, TokenPiece, TokensEnded]
        assert said[0].worker == "bob"
        assert said[-1].status == "cancelled"
        await rig.queue_empty()


async def test_everybody_asks_everybody_and_nobody_waits_for_ever(rig: Rig) -> None:
    """Each of two workers with one slot gets what belongs to the other."""
    handlers, _ = shelf()
    async with rig.worker(handlers, name="ada", slots=1), rig.worker(handlers, name="bob", slots=1):
        tasks = [
            rig.task("look", {"seconds": 0.01}, affinity="strict", home=("ada", "bob")[number % 2])
            for number in range(20)
        ]
        for task in tasks:
            await rig.send(task)
        for task in tasks:
            assert (await rig.outcome(task)).worker == task.home


async def test_what_is_held_is_bounded_and_made_once() -> None:
    now = [0.0]
    held = Held(most=3, clock=lambda: now[0])
    made: list[str] = []

    async def get(session: str, key: str = "k") -> str:
        async def make() -> str:
            await asyncio.sleep(0)
            made.append(session)
            return session

        return str(await held.get(session, key, make))

    assert await asyncio.gather(*(get("a") for _ in range(5))) == ["a"] * 5
    assert made == ["a"]
    for session in ("b", "c", "a", "d"):
        await get(session)
    assert len(held) == 3
    await get("b")
    assert made == ["a", "b", "c", "d", "b"]
    now[0] = 4000.0
    await get("e")
    assert len(held) == 1

    async def fail() -> str:
        raise RuntimeError("no")

    for _ in range(2):
        with pytest.raises(RuntimeError):
            await held.get("f", "k", fail)
    assert await get("f") == "f"


async def test_whoever_gets_a_task_for_a_handler_it_has_not_asks_one_that_has_it(rig: Rig) -> None:
    handlers, made = shelf()
    older = Handlers()

    @older.handler("glance")
    async def glance(values: dict[str, Any]) -> dict[str, Any]:
        return {}

    async with rig.worker(older, name="ada"):
        unknown = await rig.run("look")
        assert isinstance(unknown, StepFailed)
        assert (unknown.error.code, unknown.worker) == ("unknown_handler", "ada")
        async with rig.worker(handlers, name="bob"):
            tasks = [rig.task("look", node=str(number)) for number in range(12)]
            for task in tasks:
                await rig.send(task)
            for task in tasks:
                found = await rig.outcome(task)
                assert isinstance(found, StepSucceeded)
                assert found.worker == "bob"
    assert set(made) == {"bob"}


@pytest.mark.slow
async def test_who_leaves_with_what_it_was_asked_for_does_not_end_it(rig: Rig) -> None:
    handlers, made = shelf()
    older = Handlers()

    @older.handler("glance")
    async def glance(values: dict[str, Any]) -> dict[str, Any]:
        return {}

    leave = anyio.Event()

    async def bob() -> None:
        async with rig.worker(handlers, name="bob", slots=8, drain_s=0.1):
            await leave.wait()

    async with rig.worker(older, name="ada"), anyio.create_task_group() as group:
        group.start_soon(bob)
        await rig.seen(lambda: any(said.worker == "bob" for said in rig.presences))
        tasks = [rig.task("look", {"seconds": 1.5}, node=str(number)) for number in range(6)]
        for task in tasks:
            await rig.send(task)
        with anyio.fail_after(5):
            while len(made) < 6:
                await anyio.sleep(0.01)
        async with rig.worker(handlers, name="carl"):
            leave.set()
            assert {(await rig.outcome(task)).worker for task in tasks} == {"carl"}
