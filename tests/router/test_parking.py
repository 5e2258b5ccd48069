"""Sessions that only wait leave the router's memory, and come back when something arrives for them or is due."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import msgspec
import pytest

import dspex
from dspex_bus import EmbeddedServer, NatsBus, subjects
from dspex_bus.buckets import KeyValue
from dspex_bus.errors import Unavailable
from dspex_bus.streams import CHECKPOINTS, EVENTS, LIVE, PARKED, buckets, streams
from dspex_bus.wire import SignalReceived, StepCancelled, encode_event
from dspex_router.core import Session
from dspex_router.shell import RouterConfig, parking
from dspex_router.shell.journals import Journals
from dspex_router.shell.parked import Checkpoint

from .inside import router
from .test_replicas import Routers, routers
from .test_replicas import router as router_process

__all__ = ["routers"]

pytestmark = pytest.mark.anyio

PARKING = RouterConfig(park_after_s=0.2)
ASKING = dspex.pipeline([dspex.wait("go")])


class World:
    def __init__(self, server: EmbeddedServer, bus: NatsBus, client: dspex.Client) -> None:
        self.server = server
        self.bus = bus
        self.client = client
        self.live, self.parked, self.checkpoints = (bus.key_value(name) for name in (LIVE, PARKED, CHECKPOINTS))

    async def until_parked(self, *sessions: dspex.Session) -> None:
        wanted = {session.id for session in sessions}

        async def parked() -> bool:
            return _sessions(await self.parked.keys()) >= wanted and not _sessions(await self.live.keys()) & wanted

        await until(parked)

    async def store_signal(self, session: dspex.Session, id: str = "1") -> None:
        """Though no router may be there to take it."""
        slot = subjects.signal(self.partition(session), session.id, "go", id)
        data, headers = encode_event(SignalReceived(name="go", id=id, payload={"said": session.id}), slot)
        await self.bus.store_and_wait(slot, data, headers=headers, once=True)

    async def mark(self, partition: int, *leaving: str) -> None:
        """Another router's checkpoint."""
        last = (await self.bus.stream_info(EVENTS))["last_sequence"]
        mark = Checkpoint(sequence=last, second=int(time.time()), leaving=leaving)
        await self.checkpoints.put(str(partition), msgspec.json.encode(mark))

    def partition(self, session: dspex.Session) -> int:
        return subjects.partition_of(session.id, 16)


def _sessions(keys: list[str]) -> set[str]:
    return {key.rpartition(".")[2] for key in keys}


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(15):
        while not await holds():
            await anyio.sleep(0.02)


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer() as started:
        yield started


@pytest.fixture
async def world(server: EmbeddedServer) -> AsyncIterator[World]:
    async with NatsBus(server.url, name="watcher") as bus, dspex.connect(server.url) as client:
        await bus.prepare(streams(), buckets())
        yield World(server, bus, client)


async def test_a_parked_session_is_told_of_and_woken_by_a_signal(world: World) -> None:
    async with router(world.server, PARKING):
        session = await world.client.submit(ASKING, {"a": 1})
        await world.until_parked(session)

        status = await session.view()
        assert (status.status, status.waiting_for) == ("running", ("go",))
        assert [one.session for one in (await world.client.sessions()).sessions] == [session.id]

        assert await session.signal("go", {"said": "yes"})
        assert (await session.result(timeout_s=10)).output == {"said": "yes"}
        await until(lambda: _is_empty(world.live, world.parked))


async def _is_empty(*buckets: KeyValue) -> bool:
    return not any([await bucket.keys() for bucket in buckets])


async def test_it_is_cancelled_paused_and_resumed(world: World) -> None:
    async with router(world.server, PARKING):
        cancelled, paused = [await world.client.submit(ASKING) for _ in range(2)]
        await world.until_parked(cancelled, paused)
        assert (await cancelled.cancel("enough")).status == "cancelled"

        assert (await paused.pause()).paused
        await world.until_parked(paused)
        await paused.resume()
        await paused.signal("go", {"said": "yes"})
        assert (await paused.result(timeout_s=10)).output == {"said": "yes"}


@pytest.mark.slow
async def child_of(world: World, parent: dspex.Session) -> dspex.Session:
    async def has_begun() -> bool:
        return any(step.child for step in (await parent.view()).steps)

    await until(has_begun)
    return world.client.session(next(step.child for step in (await parent.view()).steps if step.child))


async def test_a_child_and_its_parent(world: World) -> None:
    outer = dspex.pipeline([dspex.subpipeline("asking"), dspex.wait("then", outputs={"said": "then"})])
    async with router(world.server, PARKING):
        await world.client.put_pipeline(msgspec.structs.replace(ASKING, name="asking"))
        parent, paused, cancelled = [await world.client.submit(outer) for _ in range(3)]
        child, held, unwanted = [await child_of(world, each) for each in (parent, paused, cancelled)]
        await world.until_parked(parent, child, paused, held, cancelled, unwanted)

        await cancelled.cancel("enough")
        assert (await unwanted.result(timeout_s=10)).status == "cancelled"

        await paused.pause()

        async def is_paused() -> bool:
            return (await held.view()).paused

        await until(is_paused)
        await paused.resume()
        await until(lambda: _not(is_paused))
        await held.signal("go", {"said": "held"})
        await paused.signal("then", {"said": "later"})
        assert (await paused.result(timeout_s=10)).status == "succeeded"

        await child.signal("go", {"said": "inner"})
        await world.until_parked(parent)
        await parent.signal("then", {"said": "outer"})
        assert (await parent.result(timeout_s=10)).output == {"then": "outer"}
        await until(lambda: _is_empty(world.live))


async def _not(holds: Callable[[], Awaitable[bool]]) -> bool:
    return not await holds()


async def test_a_child_that_nobody_told_is_back_and_is_not_wanted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever should have told it has died after its parent's step was decided."""
    monkeypatch.setattr(parking, "_LOOKED_AFTER_MS", 3000)
    outer = dspex.pipeline([dspex.subpipeline("asking")])
    async with router(world.server, PARKING):
        await world.client.put_pipeline(msgspec.structs.replace(ASKING, name="asking"))
        parent = await world.client.submit(outer)
        child = await child_of(world, parent)
        await world.until_parked(parent, child)
        partition = world.partition(parent)
        slot = subjects.outcome(partition, parent.id, subjects.ROUTER_POOL, "0", 1)
        data, headers = encode_event(StepCancelled(reason="not_needed"), slot)
        await world.bus.store_and_wait(slot, data, headers=headers, once=True)
        assert (await child.result(timeout_s=15)).status == "cancelled"


async def test_who_has_many_children_stays_and_is_in_nobody_s_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "_MOST_CHILDREN", 1)
    monkeypatch.setattr(parking, "_AT_ONCE", 1)
    monkeypatch.setattr(subjects, "partition_of", lambda _session, _partitions: 3)
    outer = dspex.pipeline([dspex.parallel([dspex.subpipeline("asking", save_as=name) for name in "ab"])])
    async with router(world.server, PARKING):
        await world.client.put_pipeline(msgspec.structs.replace(ASKING, name="asking"))
        parent = await world.client.submit(outer)
        child = await child_of(world, parent)
        others = [await world.client.submit(ASKING) for _ in range(3)]
        await world.until_parked(child, *others)
        assert parent.id not in _sessions(await world.parked.keys())


@pytest.mark.slow
async def test_it_is_back_before_it_is_due(world: World) -> None:
    async with router(world.server, PARKING):
        slept = await world.client.submit(dspex.pipeline([dspex.sleep(8)]))
        waited = await world.client.submit(dspex.pipeline([dspex.wait("go", timeout_s=8, default={"said": "no"})]))
        late = await world.client.submit(ASKING, timeout_s=8)
        await world.until_parked(slept, waited, late)
        result = await slept.result(timeout_s=15)
        assert result.status == "succeeded"
        assert (await waited.result(timeout_s=5)).output == {"said": "no"}
        assert (await late.result(timeout_s=5)).status == "timed_out"
        status = await slept.view()
        assert 8000 <= status.ended_ms - status.accepted_ms < 9000


async def test_what_came_while_no_router_was_there(world: World) -> None:
    """It is found, and the others are left where they are."""
    with router_process(world.server, "--park-after", "0.2") as first:
        sessions = [await world.client.submit(ASKING) for _ in range(6)]
        await world.until_parked(*sessions)
        first.kill()
        first.wait(10)
    for session in sessions[:3]:
        await world.store_signal(session)
    async with router(world.server):
        for session in sessions[:3]:
            assert (await session.result(timeout_s=10)).output == {"said": session.id}
        await world.until_parked(*sessions[3:])
        for session in sessions[3:]:
            await session.signal("go", {"said": session.id})
            assert (await session.result(timeout_s=10)).output == {"said": session.id}


async def test_signals_may_have_ids_like_other_subjects(world: World) -> None:
    ids = ("end", "accepted", "snapshot")
    with router_process(world.server, "--park-after", "0.2") as first:
        sessions = [await world.client.submit(ASKING) for _ in ids]
        await world.until_parked(*sessions)
        first.kill()
        first.wait(10)
    for session, id in zip(sessions, ids, strict=True):
        await world.store_signal(session, id)
    async with router(world.server, RouterConfig(park_after_s=0)):
        sessions += [await world.client.submit(ASKING) for _ in ids]
        for session, id in zip(sessions[len(ids) :], ids, strict=True):
            await world.store_signal(session, id)
        for session in sessions:
            assert (await session.result(timeout_s=10)).output == {"said": session.id}


@pytest.mark.slow
async def test_partitions_move_with_what_is_parked(world: World, routers: Routers) -> None:
    sessions = []

    async def started() -> None:
        new = [await world.client.submit(ASKING) for _ in range(8)]
        await world.until_parked(*new)
        sessions.extend(new)

    async def answered() -> None:
        session = sessions.pop(0)
        await session.signal("go", {"said": session.id})
        assert (await session.result(timeout_s=10)).output == {"said": session.id}

    with router_process(world.server, "--park-after", "0.2") as first:
        await started()
        with router_process(world.server, "--park-after", "0.2") as second:
            await routers.until(lambda: routers.sizes() == [8, 8])
            for _ in range(6):
                await answered()
            await started()
            second.kill()
            second.wait(10)
            await routers.until(lambda: routers.owns_all(first))
            while sessions:
                await answered()


async def test_one_that_was_leaving_when_its_router_died(world: World) -> None:
    """It was stored something in time, which its router knew and did nothing about."""
    async with router(world.server, RouterConfig(park_after_s=0)):
        session = await world.client.submit(ASKING)
    partition = world.partition(session)
    await world.store_signal(session)
    await world.parked.put(f"{partition}.9999999999.{session.id}", b"")
    await world.live.delete(f"{partition}.{session.id}")
    await world.mark(partition, session.id)
    async with router(world.server):
        assert (await session.result(timeout_s=10)).output == {"said": session.id}
        await until(lambda: _is_empty(world.live, world.parked))


async def test_one_that_cannot_be_read_when_it_is_woken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again, and the checkpoint stays behind what woke it."""
    failing, fold = True, Journals.fold

    async def maybe(journals: Journals, session: str) -> Session | None:
        if failing:
            raise Unavailable("the journal cannot be read")
        return await fold(journals, session)

    async with router(world.server, PARKING):
        session = await world.client.submit(ASKING)
        await world.until_parked(session)
        monkeypatch.setattr(Journals, "fold", maybe)
        await world.store_signal(session)
        stored = (await world.bus.stream_info(EVENTS))["last_sequence"]

        async def is_indexed() -> bool:
            return session.id in _sessions(await world.live.keys())

        await until(is_indexed)
        found = await world.checkpoints.get(str(world.partition(session)))
        assert found is not None
        assert msgspec.json.decode(found.value, type=Checkpoint).sequence < stored
        failing = False
        assert (await session.result(timeout_s=10)).output == {"said": session.id}


async def test_one_that_another_router_has_parked_meanwhile(world: World) -> None:
    """We have it in memory, and may not do anything of which only that one would know."""
    async with router(world.server, PARKING):
        for partition in range(16):
            await world.mark(partition)
        session = await world.client.submit(ASKING)
        await world.until_parked(session)
        await session.signal("go", {"said": session.id})
        assert (await session.result(timeout_s=10)).output == {"said": session.id}
        await until(lambda: _is_empty(world.live, world.parked))
