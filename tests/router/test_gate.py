"""Permits of sessions that go from one router to another, and of those whose router is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from dspex_bus import MemoryBus, MemoryServer
from dspex_bus.streams import buckets, streams
from dspex_bus.wire import LimitDefinition, LimitPut
from dspex_router.shell.gate import Gate, holder_of
from dspex_router.shell.limits import Limits

pytestmark = pytest.mark.anyio

LIMIT = "few"


class One:
    """A router as a limit knows it: ``sessions`` are its own, ``over`` the attempts that it knows to have ended."""

    def __init__(self, bus: MemoryBus) -> None:
        self.sessions: set[str] = set()
        self.over: set[str] = set()
        self.sent: list[str] = []
        self.limits = Limits(bus)
        self.gate = Gate(bus, self.limits, self.sessions.__contains__, self._is_over)

    async def _is_over(self, holder: str) -> bool:
        return holder in self.over

    async def send(self, session: str) -> None:
        self.sessions.add(session)

        async def send() -> None:
            self.sent.append(session)

        await self.gate.send(session, holder_of(session, "0", 1), (LIMIT,), 1, send)

    async def holders(self) -> set[str]:
        book, _ = await self.limits.book(LIMIT)
        return {holder.partition(".")[0] for holder in book.holders}


@pytest.fixture
async def routers() -> AsyncIterator[tuple[One, One]]:
    """Two, under a limit of one at once."""
    async with MemoryBus(MemoryServer()) as bus:
        await bus.prepare(streams(), buckets())
        one, other = One(bus), One(bus)
        await one.limits.put(LimitPut(definition=LimitDefinition(name=LIMIT, concurrency=1)))
        async with (
            one.limits.following(),
            other.limits.following(),
            one.gate.following(),
            other.gate.following(),
            anyio.create_task_group() as group,
        ):
            group.start_soon(one.gate.run)
            group.start_soon(other.gate.run)
            yield one, other
            group.cancel_scope.cancel()


async def sent(router: One, *sessions: str) -> None:
    with anyio.fail_after(5):
        while router.sent != list(sessions):
            await anyio.sleep(0.005)


async def test_who_lost_a_session_gives_back_nothing_of_it(routers: tuple[One, One]) -> None:
    old, new = routers
    await new.send("first")
    await sent(new, "first")
    await old.send("moved")
    await anyio.wait_all_tasks_blocked()
    old.sessions.clear()
    await new.send("moved")
    new.gate.done("first", "0", 1)
    await sent(new, "first", "moved")
    await old.send("other")  # it looks at the book, and finds that one of its steps is not its own any more
    await anyio.wait_all_tasks_blocked()
    assert await new.holders() == {"moved"}
    assert old.sent == []
    new.gate.done("moved", "0", 1)
    await sent(old, "other")


async def test_what_a_router_that_is_gone_did_not_give_back(routers: tuple[One, One]) -> None:
    gone, left = routers
    await gone.send("s")
    await sent(gone, "s")
    gone.sessions.clear()
    await left.send("t")
    await anyio.wait_all_tasks_blocked()
    assert left.sent == []
    left.over.add(holder_of("s", "0", 1))
    await left.gate.look_at_books()
    await sent(left, "t")
    assert await left.holders() == {"t"}
