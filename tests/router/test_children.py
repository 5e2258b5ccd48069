"""Sessions that another session starts."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest
from msgspec.structs import replace

from dspex_bus import MemoryBus, MemoryServer, subjects
from dspex_bus.claim import Claims
from dspex_bus.errors import Disconnected
from dspex_bus.memory.buckets import MemoryKeyValue
from dspex_bus.streams import EVENTS, LIVE, buckets, streams
from dspex_bus.wire import (
    Origin,
    PipelineNode,
    Plan,
    RetryPolicy,
    SequenceNode,
    SessionAccepted,
    WaitNode,
    encode_event,
)
from dspex_router.shell.config import RouterConfig
from dspex_router.shell.earlier import Earlier
from dspex_router.shell.errands import Errands
from dspex_router.shell.journals import Journals
from dspex_router.shell.limits import Limits
from dspex_router.shell.owner import Owner
from dspex_router.shell.young import Young

pytestmark = pytest.mark.anyio


def plan(*steps: Any) -> Plan:
    return Plan(pipeline="p", digest="d", root=SequenceNode(id="root", name="p", children=steps))


INNER = plan(WaitNode(id="0", name="wait", signal="go"))
OUTER = plan(PipelineNode(id="0", name="inner", plan=INNER, retry=RetryPolicy(attempts=1)))


async def test_a_child_is_begun_once_it_can_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a router of an earlier release may be its owner, who would know of no other."""
    away, tried = True, 0
    put = MemoryKeyValue.put

    async def unreliable(bucket: MemoryKeyValue, key: str, value: bytes, **more: Any) -> int:
        nonlocal tried
        tried += 1
        if away:
            raise Disconnected("lost")
        return await put(bucket, key, value, **more)

    monkeypatch.setattr(MemoryKeyValue, "put", unreliable)
    async with MemoryBus(MemoryServer()) as bus, anyio.create_task_group() as group:
        await bus.prepare(streams(), buckets())
        errands = Errands()
        group.start_soon(errands.run)
        await anyio.lowlevel.checkpoint()
        owner = Owner(
            bus, RouterConfig(), errands, Journals(bus, 1), Limits(bus), lambda _=None: True, Young(bus, lambda: False)
        )
        owner.own(frozenset({0}))
        group.start_soon(owner.timers.run)

        async def begun() -> list[str]:
            return [message.subject async for message in bus.history(EVENTS, f"{subjects.JOURNAL}.0.*.accepted")]

        slot = subjects.accepted(0, "s")
        await Claims(bus).store_once(
            slot, *encode_event(SessionAccepted(session="s", plan=OUTER, input={}, deadline_ms=2**50), slot)
        )
        stored = await bus.last(EVENTS, slot)
        assert stored is not None
        await owner.on_stored(stored)
        with anyio.fail_after(5):
            while tried < 2:
                await anyio.sleep(0.01)
            assert len(await begun()) == 1
            away = False
            while len(await begun()) < 2:
                await anyio.sleep(0.01)
        assert len(await bus.key_value(LIVE).keys()) == 1
        group.cancel_scope.cancel()


async def test_a_child_goes_on_from_one_that_was_asked_the_same() -> None:
    """Of any other, or one that is gone, there is nothing to keep."""
    async with MemoryBus(MemoryServer()) as bus:
        await bus.prepare(streams(), buckets())
        slot = subjects.accepted(0, "before")
        before = SessionAccepted(
            session="before", plan=INNER, input={"a": 1}, deadline_ms=2**50, kept={"0": {"b": 2}}, children={"1": "c"}
        )
        await Claims(bus).store_once(slot, *encode_event(before, slot))
        earlier = Earlier(Journals(bus, 1))
        origin = Origin(session="before")
        child = SessionAccepted(session="after", plan=INNER, input={"a": 1}, deadline_ms=2**50, origin=origin)

        found = await earlier.for_child(child)
        assert (found.kept, found.children, found.origin) == (before.kept, before.children, origin)
        assert await earlier.for_child(found) == found

        for other in (
            replace(child, input={"a": 2}),
            replace(child, plan=replace(INNER, digest="other")),
            replace(child, origin=Origin(session="gone")),
        ):
            assert await earlier.for_child(other) == replace(other, origin=None)
        assert await earlier.for_child(replace(child, origin=None)) == replace(child, origin=None)
