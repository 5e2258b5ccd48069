"""Conversations on a real server: each turn once, whoever writes and however often."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from dspex_bus.errors import InvalidRequest, NotFound
from dspex_bus.streams import THREADS
from dspex_services.handlers import Handlers, Step
from dspex_services.threads import Conversation, Thread, ThreadStore, Turn
from dspex_services.threads.types import MOST_BYTES, MOST_TURNS

from ..rig import Rig

pytestmark = pytest.mark.anyio

handlers = Handlers()


@handlers.handler("echo")
async def echo(values: dict[str, Any], step: Step) -> dict[str, Any]:
    assert step.conversation is not None
    before = await step.conversation.history()
    answer = {"answer": f"{len(before)} before"}
    await step.conversation.remember(values, answer)
    return answer


@handlers.handler("forget")
async def forget(values: dict[str, Any]) -> dict[str, Any]:
    return {}


def turn(number: int, text: str = "") -> Turn:
    return Turn(session="s", node=str(number), time_ms=number, fields={"text": text})


def test_the_oldest_make_room() -> None:
    thread = Thread()
    for number in range(MOST_TURNS + 3):
        thread = thread.with_turn(turn(number))
    assert (len(thread.turns), thread.forgotten, thread.turns[0].node) == (MOST_TURNS, 3, "3")
    thread = thread.with_turn(turn(900, "x" * (MOST_BYTES - 2000)))
    assert thread.turns[-1].node == "900"
    assert len(thread.turns) < 40
    assert thread.forgotten + len(thread.turns) == MOST_TURNS + 4
    with pytest.raises(InvalidRequest) as error:
        thread.with_turn(turn(901, "x" * MOST_BYTES))
    assert error.value.code == "turn_too_large"


def test_a_step_that_runs_again_says_its_turn_in_the_same_place() -> None:
    thread = Thread().with_turn(turn(0, "a")).with_turn(turn(1, "b")).with_turn(turn(0, "c"))
    assert [one.fields["text"] for one in thread.turns] == ["c", "b"]


async def test_many_writers_lose_nothing(rig: Rig) -> None:
    key = f"thread.{rig.pool}"
    async with anyio.create_task_group() as group:
        for number in range(12):
            conversation = Conversation(rig.bus, key, "s", str(number))
            group.start_soon(conversation.remember, {"question": number}, {"answer": number})
    thread = await ThreadStore(rig.bus).get(rig.pool)
    assert sorted(one.fields["answer"] for one in thread.turns) == list(range(12))


async def test_a_task_that_comes_twice_is_one_turn_and_does_not_see_itself(rig: Rig) -> None:
    """A worker wrote its turn and died before its outcome was stored."""
    key = f"thread.{rig.pool}"
    await Conversation(rig.bus, key, "earlier", "0").remember({"q": 0}, {"answer": "-"})
    task = rig.task("echo", {"q": 1}, thread=key)
    await Conversation(rig.bus, key, task.session, task.node).remember({"q": 1}, {"answer": "of the dead"})
    async with rig.worker(handlers), rig.worker(handlers):
        await rig.send(task, {"Dspex-Resent": "1"})
        assert (await rig.outcome(task)).outputs == {"answer": "1 before"}
        following = await rig.run("echo", {"q": 2}, thread=key)
    assert following.outputs == {"answer": "2 before"}
    thread = await ThreadStore(rig.bus).get(rig.pool)
    assert [one.fields for one in thread.turns] == [
        {"q": 0, "answer": "-"},
        {"q": 1, "answer": "1 before"},
        {"q": 2, "answer": "2 before"},
    ]


async def test_list_show_and_clear(rig: Rig) -> None:
    store, tenant = ThreadStore(rig.bus), f"t{rig.pool}"
    for key in (f"thread.{rig.pool}", f"tenant.{tenant}.{rig.pool}", f"session.{rig.pool}"):
        await Conversation(rig.bus, key, "s", "0").remember({}, {"of": key})
    named = [one for one in await store.list(sessions=True) if one.name == rig.pool]
    assert {(one.tenant, one.of_session, one.turns) for one in named} == {
        ("", False, 1),
        (tenant, False, 1),
        ("", True, 1),
    }
    assert [one.tenant for one in await store.list(tenant=tenant)] == [tenant]
    for where in ({}, {"tenant": tenant}, {"of_session": True}):
        assert len((await store.get(rig.pool, **where)).turns) == 1  # type: ignore[arg-type]
        assert await store.clear(rig.pool, **where) == 1  # type: ignore[arg-type]
        with pytest.raises(NotFound):
            await store.get(rig.pool, **where)  # type: ignore[arg-type]
    assert await store.clear(rig.pool) == 0


async def test_what_a_session_keeps_for_itself_does_not_stay_for_ever(rig: Rig) -> None:
    await Conversation(rig.bus, f"session.{rig.pool}", "s", "0").remember({}, {"a": 1})
    stored = await rig.bus.last(f"KV_{THREADS}", f"$KV.{THREADS}.session.{rig.pool}")
    assert stored is not None
    assert stored.headers is not None
    assert stored.headers["Nats-TTL"]


async def test_a_handler_that_takes_no_part_in_it_says_so(rig: Rig) -> None:
    async with rig.worker(handlers):
        assert (await rig.run("forget", thread=f"thread.{rig.pool}")).error.code == "cannot_remember"
        assert (await rig.run("forget")).outputs == {}
