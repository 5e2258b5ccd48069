"""Events whose bodies have to be fetched: in their session's order, and in nobody else's way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from dspex_bus import MemoryBus, MemoryServer, subjects
from dspex_bus.claim import LARGE_BYTES, Claims
from dspex_bus.errors import StoreFailed
from dspex_bus.memory.buckets import MemoryObjects
from dspex_bus.streams import EVENTS, buckets, streams
from dspex_bus.wire import Plan, SequenceNode, SessionAccepted, SignalReceived, WaitNode, encode_event
from dspex_router.shell.config import RouterConfig
from dspex_router.shell.errands import Errands
from dspex_router.shell.journals import Journals
from dspex_router.shell.limits import Limits
from dspex_router.shell.owner import Owner
from dspex_router.shell.young import Young

pytestmark = pytest.mark.anyio

LARGE = "x" * (LARGE_BYTES + 1)


class Fetching:
    """An owner whose object store answers when it is told to, and fails as often as it is told to."""

    def __init__(self, bus: MemoryBus, config: RouterConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bus = bus
        self.asked = anyio.Event()
        self.go = anyio.Event()
        self.failures = 0
        self.errands = Errands()
        self.journals = Journals(bus, 16)
        self.owner = Owner(
            bus, config, self.errands, self.journals, Limits(bus), lambda _=None: True, Young(bus, lambda: True)
        )
        self.owner.own(frozenset(range(16)))
        get = MemoryObjects.get

        async def gated(objects: MemoryObjects, name: str) -> bytes | None:
            self.asked.set()
            await self.go.wait()
            if self.failures:
                self.failures -= 1
                raise StoreFailed("not now")
            return await get(objects, name)

        monkeypatch.setattr(MemoryObjects, "get", gated)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(self.errands.run)
            reader = await self.bus.read(EVENTS, [f"{subjects.JOURNAL}.>"], self.owner.on_stored)
            yield
            await reader.close()
            group.cancel_scope.cancel()

    async def start(self, session: str) -> None:
        """A session that waits for two signals."""
        waits = tuple(
            WaitNode(id=str(place), name=f"wait {place}", signal="go", save_as=f"taken{place}") for place in range(2)
        )
        plan = Plan(
            pipeline="p",
            digest="d",
            root=SequenceNode(id="root", name="p", children=waits),
            output=("taken0", "taken1"),
        )
        accepted = SessionAccepted(session=session, plan=plan, input={}, deadline_ms=2**50)
        slot = subjects.accepted(self.journals.partition(session), session)
        await Claims(self.bus).store_once(slot, *encode_event(accepted, slot))

    async def signal(self, session: str, id: str, said: str) -> None:
        slot = subjects.signal(self.journals.partition(session), session, "go", id)
        event = SignalReceived(name="go", id=id, payload={"said": said})
        await Claims(self.bus).store_once(slot, *encode_event(event, slot))

    async def output(self, session: str) -> object:
        with anyio.fail_after(10):
            while (ended := await self.journals.ended(session)) is None:
                await anyio.sleep(0.01)
        return ended[0].output


@asynccontextmanager
async def fetching(monkeypatch: pytest.MonkeyPatch, config: RouterConfig | None = None) -> AsyncIterator[Fetching]:
    async with MemoryBus(MemoryServer()) as bus:
        await bus.prepare(streams(), buckets())
        made = Fetching(bus, config or RouterConfig(), monkeypatch)
        async with made.running():
            yield made


async def test_its_own_session_waits_for_it_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fetching(monkeypatch) as made:
        await made.start("one")
        await made.start("two")
        await made.signal("one", "first", LARGE)
        await made.signal("one", "second", "small")
        await made.asked.wait()
        await made.signal("two", "first", "a")
        await made.signal("two", "second", "b")
        assert await made.output("two") == {"taken0": {"said": "a"}, "taken1": {"said": "b"}}
        assert await made.journals.ended("one") is None
        made.go.set()
        assert await made.output("one") == {"taken0": {"said": LARGE}, "taken1": {"said": "small"}}
        with anyio.fail_after(10):
            while made.owner.sessions:
                await anyio.sleep(0.01)


async def test_a_store_that_fails_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fetching(monkeypatch) as made:
        made.failures = 2
        made.go.set()
        await made.start("one")
        await made.signal("one", "first", LARGE)
        await made.signal("one", "second", "small")
        assert await made.output("one") == {"taken0": {"said": LARGE}, "taken1": {"said": "small"}}


async def test_a_session_whose_store_goes_on_failing_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fetching(monkeypatch, RouterConfig(store_tries=1)) as made:
        await made.start("one")
        await made.signal("one", "first", LARGE)
        await made.asked.wait()
        assert "one" in made.owner.sessions
        made.failures = 1
        made.go.set()
        with anyio.fail_after(10):
            while "one" in made.owner.sessions:
                await anyio.sleep(0.01)
        # A sweep takes it up again, from its journal.
        state = await made.journals.fold("one")
        assert state is not None
        await made.owner.adopt(state)
        await made.signal("one", "second", "small")
        assert await made.output("one") == {"taken0": {"said": LARGE}, "taken1": {"said": "small"}}
