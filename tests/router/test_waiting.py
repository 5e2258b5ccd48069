"""Who waits for a limit, and in which order."""

from __future__ import annotations

import anyio
import pytest

from dspex_bus import MemoryBus, MemoryServer
from dspex_bus.streams import buckets, streams
from dspex_bus.wire import LimitDefinition, LimitPut, LimitRequest
from dspex_router.shell.gate import Gate, holder_of
from dspex_router.shell.limits import Limits
from dspex_router.shell.waiting import Step, Waiting

pytestmark = pytest.mark.anyio

URGENT, NORMAL = 0, 1


async def nothing() -> None: ...


def step(holder: str, rank: int = NORMAL) -> Step:
    return Step(holder, session=holder, rank=rank, names=("few",), lacks=["few"], send=nothing)


def test_the_urgent_first_and_then_as_they_came() -> None:
    waiting, gone = Waiting(lambda session: session != "gone"), step("gone")
    for each in (step("a"), gone, step("b"), step("c", URGENT)):
        waiting.add(each)
    assert list(waiting) == ["c", "a", "b"]
    assert ("gone" in waiting, "a" in waiting, 1 in waiting) == (False, True, False)
    assert waiting.lost() == [gone]
    assert len(waiting) == 3
    waiting.remove(step("a"))  # another one of that name
    assert "a" in waiting
    found = waiting.get("a")
    assert found is not None
    waiting.remove(found)
    assert list(waiting) == ["c", "b"]
    assert waiting.lost() == []


async def test_thousands_that_wait_cost_no_more_than_they_are() -> None:
    """They wait, some of them not to the end, then the limit is taken away, and each is sent once. With its square
    this would take minutes."""
    many, sent = 20_000, list[int]()
    async with MemoryBus(MemoryServer()) as bus:
        await bus.prepare(streams(), buckets())
        limits = Limits(bus)
        gate = Gate(bus, limits, lambda _: True, _never)
        await limits.put(LimitPut(definition=LimitDefinition(name="few", concurrency=4)))
        async with limits.following(), gate.following(), anyio.create_task_group() as group:
            group.start_soon(gate.run)

            def sender(number: int) -> Step:
                async def send() -> None:
                    sent.append(number)

                return Step(holder_of(f"s{number}", "0", 1), f"s{number}", NORMAL, ("few",), ["few"], send)

            for number in range(many):
                one = sender(number)
                await gate.send(one.session, one.holder, one.names, one.rank, one.send)
            with anyio.fail_after(10):
                while len(sent) < 4:
                    await anyio.sleep(0.01)
            for number in range(many // 2, many):
                gate.done(f"s{number}", "0", 1)
            await limits.delete(LimitRequest(name="few"))
            with anyio.fail_after(20):
                while len(sent) < many // 2:
                    await anyio.sleep(0.05)
            group.cancel_scope.cancel()
    assert sent == list(range(many // 2))


async def _never(_holder: str) -> bool:
    return False
