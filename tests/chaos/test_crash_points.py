"""A router and a worker killed before and after everything they publish and acknowledge.

The places are those that a process names when it is told to (dspex_bus/crashing.py): a new publish is a new place, and
tested without anybody's doing. Process follows process, each told to die at the next place, and takes up what the one
before it left.
"""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import msgspec
import pytest

import dspex
from dspex_bus import EmbeddedServer, NatsBus
from dspex_bus.crashing import CRASH_AT
from dspex_bus.streams import PARKED
from dspex_bus.wire import RetryPolicy

from .clients import Client, any_lives
from .handlers import executions
from .history import Observed, check
from .journal import read_journal
from .parts import POOL, Part, router, worker

pytestmark = pytest.mark.anyio

NAMED = re.compile(r"crash place (\S+)")
AT_MOST_S = 25
"""A place that is not come to by then is none that can be tested so."""


def act(*script: str, work_s: float = 0.0, **more: object) -> dspex.StepDefinition:
    options = {"script": list(script or ("ok",)), "work_s": work_s}
    return dspex.native("chaos.act", pool=POOL, retry=RetryPolicy(attempts=3, initial_s=0.02), **options, **more)


PART = dspex.pipeline([act(work_s=0.02)], name="part")
WHOLE = dspex.pipeline(
    [
        act("fail", "ok"),
        dspex.wait("go"),
        dspex.sleep(0.05),
        dspex.parallel([act(), act(work_s=20)], join="any", save_as="raced"),
        dspex.map("items", [act(work_s=0.25)], limit=2, save_as="mapped"),
        dspex.subpipeline("part"),
    ],
    name="whole",
)
CANCELLED = dspex.pipeline(
    [dspex.parallel([act(work_s=20), act("hang"), dspex.subpipeline("endless")], save_as="all")], name="cancelled"
)
ENDLESS = dspex.pipeline([act("hang")], name="endless")
PARKED_FOR_A_WHILE = dspex.pipeline([dspex.wait("go"), act()], name="parked")
PARKING = ("--park-after", "0.1")


@dataclass
class World:
    """A server, clients that go on whatever happens, and what they see."""

    server: str
    folder: Path
    client: Client
    observed: Observed = field(default_factory=Observed)

    async def work(self, number: int) -> None:
        """Everything that makes a router or a worker publish something."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._whole, number)
            group.start_soon(self._cancelled, number)
            group.start_soon(self._parked, number)
            group.start_soon(self.client.put, msgspec.structs.replace(PART, description=f"version {number}"))

    async def _whole(self, number: int) -> None:
        session = await self.client.submit("whole", {"items": [1, 2, 3]}, id=f"whole-{number}")
        await self.client.pause(session)
        await self.client.signal(session, "go", "1", {"said": "go"})
        await self.client.resume(session)
        await self.client.result(session)

    async def _cancelled(self, number: int) -> None:
        session = await self.client.submit("cancelled", id=f"cancelled-{number}")
        await anyio.sleep(0.1)
        await self.client.cancel(session)
        await self.client.result(session)

    async def _parked(self, number: int) -> None:
        """Signalled when it is in no router's memory, or on its way out of it."""
        session = await self.client.submit("parked", id=f"parked-{number}")
        parked = self.client.connected.bus.key_value(PARKED)
        with anyio.move_on_after(2):
            while not await parked.keys(f"*.*.{session.id}"):
                await anyio.sleep(0.01)
        await self.client.signal(session, "go", "1", {"said": "go"})
        await self.client.result(session)

    async def quiet(self) -> None:
        """Until no session is live any more, children of those that have ended included."""
        with anyio.move_on_after(40):
            while await any_lives(self.client.connected):
                await anyio.sleep(0.05)

    async def wrong(self) -> list[str]:
        """What is wrong with the whole history."""
        self.observed.executions = executions(self.folder / "executions")
        async with NatsBus(self.server, name="checker") as bus:
            journal = await read_journal(bus)
        return [str(violation) for violation in check(journal, self.observed)]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with EmbeddedServer() as server, dspex.connect(server.url) as connected:
        observed = Observed()
        yield World(server.url, tmp_path, Client(connected, observed), observed)


@asynccontextmanager
async def running(*parts: Part) -> AsyncIterator[None]:
    try:
        for part in parts:
            await part.started()
        yield
    finally:
        for part in parts:
            part.kill()


async def relay(world: World, make: Callable[[str], Part], wanted: list[str]) -> list[str]:
    """Process after process, each of which dies at its place while work goes on; the places that were not come to."""
    missed = []
    number = 0

    async def work() -> None:
        nonlocal number
        while True:
            number += 1
            await world.work(number)

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        for place in wanted:
            part = make(place)
            part.start()
            if not await part.ended(AT_MOST_S) or not part.was_killed:
                missed.append(place)
            part.kill()
        group.cancel_scope.cancel()
    async with running(make("")):
        await world.work(number)  # what was interrupted: the same sessions, to their ends
        await world.quiet()
    return missed


async def named(world: World, first: Part, second: Part, which: Part) -> list[str]:
    """The places that one of two parts comes to in one round of work."""
    async with running(first, second):
        for definition in (PART, ENDLESS, WHOLE, CANCELLED, PARKED_FOR_A_WHILE):
            await world.client.put(definition)
        await world.work(0)
        which.send(signal.SIGTERM)
        assert await which.ended(20)
    return sorted(set(NAMED.findall(which.log.read_text())))


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_router_killed_at_every_place(world: World) -> None:
    def make(place: str) -> Part:
        return router(world.server, world.folder, arguments=PARKING, **{CRASH_AT: place})

    one = router(world.server, world.folder, name="named", arguments=PARKING, **{CRASH_AT: "?"})
    wanted = await named(world, one, worker(world.server, world.folder), one)
    assert {"store.task.before", "store.journal.end.after", "say.cancelled.before"} <= set(wanted)
    assert {"store.dspex_checkpoints.after", "store.dspex_parked.before", "purge.dspex_parked.after"} <= set(wanted)
    async with running(worker(world.server, world.folder)):
        assert await relay(world, make, wanted) == []
    assert await world.wrong() == []


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_worker_killed_at_every_place(world: World) -> None:
    def make(place: str) -> Part:
        return worker(world.server, world.folder, ack_wait_s=0.5, **{CRASH_AT: place})

    one = worker(world.server, world.folder, name="named", ack_wait_s=0.5, **{CRASH_AT: "?"})
    wanted = await named(world, router(world.server, world.folder), one, one)
    assert {"store.journal.step.before", "ack.task.after", "in_progress.task.before"} <= set(wanted)
    async with running(router(world.server, world.folder)):
        assert await relay(world, make, wanted) == []
    assert await world.wrong() == []


@pytest.mark.slow
@pytest.mark.parametrize("place", ["nak.task.before", "nak.task.after"])
async def test_a_worker_killed_as_it_gives_back_what_has_not_ended(world: World, place: str) -> None:
    armed = worker(world.server, world.folder, ack_wait_s=0.5, drain_s=0.1, **{CRASH_AT: place})
    async with running(router(world.server, world.folder)):
        async with running(armed):
            session = await world.client.submit(dspex.pipeline([act(work_s=2.0)]), id="one")
            with anyio.fail_after(10):
                while not executions(world.folder / "executions"):
                    await anyio.sleep(0.01)
            armed.send(signal.SIGTERM)
            assert await armed.ended(10)
            assert armed.was_killed
        async with running(worker(world.server, world.folder, name="other")):
            assert (await world.client.result(session)).status == "succeeded"
    assert await world.wrong() == []


@pytest.mark.slow
@pytest.mark.parametrize("place", ["store.dead.before", "store.dead.after", "store.journal.step.before"])
async def test_a_worker_killed_as_it_tells_of_a_deadly_task(world: World, place: str) -> None:
    """The task has killed two; the third keeps it as a dead letter and records that it is lost."""

    def one(number: int, **env: str) -> Part:
        return worker(world.server, world.folder, name=f"worker-{number}", ack_wait_s=0.5, **env)

    async with running(router(world.server, world.folder), one(0)):
        session = await world.client.submit(dspex.pipeline([act("die")]), id="one")
        for part in (one(1), one(2, **{CRASH_AT: place})):
            part.start()  # it may be killed before it could say that it is ready
            assert await part.ended(10)
            assert part.was_killed
            part.kill()
        async with running(one(3)):
            result = await world.client.result(session)
        letters = await world.client.connected.dead_letters()
    assert result.error is not None
    assert result.error.code == "worker_lost"
    assert await world.wrong() == []
    assert [letter.session for letter in letters.letters] == ["one"]
