"""Sessions that began a moment ago are in no index, and are found all the same."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator

import anyio
import msgspec
import pytest

import dspex
from dspex_bus import EmbeddedServer, Message, NatsBus, subjects
from dspex_bus.streams import EVENTS, LIVE, buckets, streams
from dspex_bus.wire import RouterPresence, SessionEnded, encode, encode_event
from dspex_router.shell import RouterConfig
from dspex_router.shell.parked import Checkpoint
from dspex_router.shell.young import Young

from .inside import router
from .test_parking import World, until
from .test_replicas import Routers, routers
from .test_replicas import router as router_process

__all__ = ["routers"]

pytestmark = pytest.mark.anyio

ASKING = dspex.pipeline([dspex.wait("go")])
SHORT = dspex.pipeline([dspex.sleep(0.01)])
LIVE_STREAM = f"KV_{LIVE}"


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer() as started:
        yield started


@pytest.fixture
async def world(server: EmbeddedServer) -> AsyncIterator[World]:
    async with NatsBus(server.url, name="watcher") as bus, dspex.connect(server.url) as client:
        await bus.prepare(streams(), buckets())
        yield World(server, bus, client)


async def _indexed(world: World) -> int:
    """How many entries the index has ever had."""
    return int((await world.bus.stream_info(LIVE_STREAM))["last_sequence"])


async def _marks(world: World) -> dict[int, Checkpoint]:
    found = {partition: await world.checkpoints.get(str(partition)) for partition in range(16)}
    return {
        partition: msgspec.json.decode(entry.value, type=Checkpoint)
        for partition, entry in found.items()
        if entry is not None
    }


async def test_a_short_run_is_in_no_index_and_one_that_lasts_is(world: World) -> None:
    async with router(world.server):
        for _ in range(5):
            assert (await world.client.run(SHORT)).status == "succeeded"
        assert await _indexed(world) == 0
        session = await world.client.submit(ASKING)
        begun = (await world.bus.stream_info(EVENTS))["last_sequence"]
        assert [one.session for one in (await world.client.sessions(ended=False)).sessions] == [session.id]

        async def indexed() -> bool:
            return await world.live.keys() == [f"{world.partition(session)}.{session.id}"]

        async def passed() -> bool:
            return (await _marks(world))[world.partition(session)].sequence >= begun

        await until(indexed)
        await until(passed)
        await session.signal("go", {})
        await session.result(timeout_s=10)
        await until(lambda: _is_empty(world))


async def _is_empty(world: World) -> bool:
    return not await world.live.keys()


async def test_a_checkpoint_stays_behind_what_is_in_no_index(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex_router.shell.young.YOUNG_S", 1e9)
    monkeypatch.setattr("dspex_router.shell.parking._MARK_S", 0.0)
    async with router(world.server):
        session = await world.client.submit(ASKING)
        begun = (await world.bus.stream_info(EVENTS))["last_sequence"]
        for number in range(3):
            assert await session.signal("other", {"number": number})
        last = (await world.bus.stream_info(EVENTS))["last_sequence"]
        mine = world.partition(session)
        others = [await world.client.submit(SHORT, session=f"s{number}") for number in range(64)]
        for other in others:
            await other.result(timeout_s=10)

        async def others_moved() -> bool:
            marks = await _marks(world)
            return all(mark.sequence > last for partition, mark in marks.items() if partition != mine)

        await until(others_moved)
        assert (await _marks(world))[mine].sequence < begun
        assert await _indexed(world) == 0


async def test_a_router_that_dies_leaves_them_to_the_next(world: World) -> None:
    """Some have been told to go on while nobody was there."""
    with router_process(world.server) as first:
        sessions = [await world.client.submit(ASKING) for _ in range(40)]
        first.kill()
        first.wait(10)
    assert await _indexed(world) == 0
    for session in sessions[:20]:
        await world.store_signal(session)
    async with router(world.server):
        assert {one.session for one in (await world.client.sessions(ended=False)).sessions} >= {
            one.id for one in sessions[20:]
        }
        for session in sessions[20:]:
            assert await session.signal("go", {"said": session.id})
        for session in sessions:
            assert (await session.result(timeout_s=10)).output == {"said": session.id}
        await until(lambda: _is_empty(world))


async def test_who_waits_is_told_of_an_end_that_its_router_did_not_live_to_tell_of(world: World) -> None:
    told: dict[str, bytes] = {}

    async def on_reply(message: Message) -> None:
        told[message.subject] = message.data

    await world.bus.subscribe("answers.*", on_reply)
    with router_process(world.server) as first:
        request = encode({"input": {}, "session": "s", "definition": msgspec.to_builtins(ASKING)})
        await world.bus.publish(subjects.run(subjects.INLINE), request, reply="answers.s")

        async def accepted() -> bool:
            return await world.bus.last(EVENTS, subjects.accepted(partition, "s")) is not None

        partition = subjects.partition_of("s", 16)
        await until(accepted)
        first.kill()
        first.wait(10)
    slot = subjects.end(partition, "s")
    data, headers = encode_event(SessionEnded(status="succeeded", output={"a": 1}), slot)
    await world.bus.store_and_wait(slot, data, headers=headers, once=True)
    assert not told
    async with router(world.server):

        async def replied() -> bool:
            return "answers.s" in told

        await until(replied)
        assert json.loads(told["answers.s"])["output"] == {"a": 1}
        assert await _indexed(world) == 0


@pytest.mark.slow
async def test_what_cannot_be_read_is_put_into_the_index(world: World) -> None:
    """Only a later look can do something about it, or a later release."""
    async with router(world.server, RouterConfig(sweep_s=0.2)):
        slot = subjects.accepted(subjects.partition_of("s", 16), "s")
        await world.bus.store_and_wait(slot, b'{"type": "session.accepted"}', once=True)

        async def ended() -> bool:
            return await world.bus.last(EVENTS, subjects.end(subjects.partition_of("s", 16), "s")) is not None

        await until(ended)
        assert await _indexed(world) > 0
        await until(lambda: _is_empty(world))


async def test_beside_a_router_of_an_earlier_release_every_session_is_in_the_index(world: World) -> None:
    older = RouterPresence(router="older", format=1, started_ms=int(time.time() * 1000))

    async def speak() -> None:
        while True:
            await world.bus.publish(subjects.router("older"), encode(older))
            await anyio.sleep(0.2)

    async with router(world.server), anyio.create_task_group() as group:
        group.start_soon(speak)

        async def announced() -> bool:
            before = await _indexed(world)
            assert (await world.client.run(SHORT)).status == "succeeded"
            return await _indexed(world) > before

        await until(announced)
        await until(lambda: _is_empty(world))
        group.cancel_scope.cancel()


async def test_a_checkpoint_past_the_end_of_the_journal_means_nothing(world: World) -> None:
    """The journal lost its end with the power, say."""
    with router_process(world.server) as first:
        session = await world.client.submit(ASKING)
        first.kill()
        first.wait(10)
    mark = Checkpoint(sequence=1_000_000, second=int(time.time()))
    await world.checkpoints.put(str(world.partition(session)), msgspec.json.encode(mark))
    async with router(world.server):
        await session.signal("go", {"said": "yes"})
        assert (await session.result(timeout_s=10)).output == {"said": "yes"}


async def test_sessions_of_another_router_are_listed_from_their_start(world: World, routers: Routers) -> None:
    with router_process(world.server), router_process(world.server):
        await routers.until(lambda: routers.sizes() == [8, 8])
        sessions = {(await world.client.submit(ASKING)).id for _ in range(16)}
        for _ in range(4):  # whoever of the two answers
            assert {one.session for one in (await world.client.sessions(ended=False)).sessions} == sessions


async def test_the_first_start_of_a_partition_that_nobody_has_had(world: World) -> None:
    """It was accepted by a router that was faster to start than the partition's owner, which died then."""
    async with router(world.server):
        session = await world.client.submit(ASKING)
    for partition in range(16):
        await world.checkpoints.delete(str(partition))
    async with router(world.server):
        await session.signal("go", {"said": "yes"})
        assert (await session.result(timeout_s=10)).output == {"said": "yes"}


async def test_one_that_ends_while_it_is_put_into_the_index(world: World) -> None:
    young = Young(world.bus, lambda: True)
    young.came(3, "s", 7)
    async with anyio.create_task_group() as group:
        group.start_soon(young.put, 3, "s")
        await anyio.lowlevel.checkpoint()
        assert young.over(3, "s")
    assert await world.live.keys() == []
    young.came(3, "t", 8)
    assert young.oldest(3) == 8
    await young.put(3, "t")
    assert (young.oldest(3), young.over(3, "t")) == (None, False)
    assert await world.live.keys() == ["3.t"]
