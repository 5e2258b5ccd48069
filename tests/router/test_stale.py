"""What is asked of a router that has not yet heard of what another one stored."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from dspex_bus import subjects
from dspex_bus.memory import MemoryBus, MemoryServer
from dspex_bus.streams import EVENTS, buckets, streams
from dspex_bus.wire import Plan, SequenceNode, SessionAccepted, WaitNode, encode_event
from dspex_router.shell.controlling import Controls
from dspex_router.shell.errands import Errands
from dspex_router.shell.journals import Journals

pytestmark = pytest.mark.anyio

WAIT = WaitNode(id="0", name="wait", signal="go")
PLAN = Plan(pipeline="p", digest="d", root=SequenceNode(id="root", name="root", children=(WAIT,)))


async def test_a_resumption_right_after_a_pause() -> None:
    async with MemoryBus(MemoryServer()) as bus:
        await bus.prepare(streams(), buckets())
        journals = Journals(bus, 1)
        slot = subjects.accepted(0, "s")
        accepted = SessionAccepted(session="s", plan=PLAN, input={}, deadline_ms=2**50)
        data, headers = encode_event(accepted, slot)
        await bus.store_and_wait(slot, data, headers=headers, once=True)
        before = await journals.fold("s")
        assert before is not None
        await Controls(bus, journals, {}).pause("s")
        await Controls(bus, journals, {"s": before}).resume("s")
        assert await bus.last(EVENTS, subjects.control(0, "s", 1)) is not None
        folded = await journals.fold("s")
        assert folded is not None
        assert not folded.paused


async def test_an_errand_that_comes_after_the_end_harms_nobody() -> None:
    errands = Errands()
    async with anyio.create_task_group() as group:
        group.start_soon(errands.run)
        await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()

    async def never() -> None:
        raise AssertionError

    errands.add(never)
