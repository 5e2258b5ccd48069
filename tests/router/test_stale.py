"""What is asked of a router that has not yet heard of what another one stored."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from dspex_bus import subjects
from dspex_bus.claim import Claims
from dspex_bus.errors import Conflict
from dspex_bus.memory import MemoryBus, MemoryServer
from dspex_bus.streams import EVENTS, buckets, streams
from dspex_bus.wire import (
    ErrorInfo,
    Plan,
    SequenceNode,
    SessionAccepted,
    SessionEnded,
    SignalRequest,
    WaitNode,
    encode_event,
)
from dspex_router.core import Session
from dspex_router.shell.controlling import Controls
from dspex_router.shell.errands import Errands
from dspex_router.shell.journals import Journals

pytestmark = pytest.mark.anyio

WAIT = WaitNode(id="0", name="wait", signal="go")
PLAN = Plan(pipeline="p", digest="d", root=SequenceNode(id="root", name="root", children=(WAIT,)))


async def test_a_resumption_right_after_a_pause() -> None:
    async with MemoryBus(MemoryServer()) as bus:
        journals = Journals(bus, 1)
        before = await begun(bus, journals)
        await Controls(bus, journals, {}).pause("s")
        await Controls(bus, journals, {"s": before}).resume("s")
        assert await bus.last(EVENTS, subjects.control(0, "s", 1)) is not None
        folded = await journals.fold("s")
        assert folded is not None
        assert not folded.paused


async def begun(bus: MemoryBus, journals: Journals) -> Session:
    """A session as a router has it in memory that hears no more of it."""
    await bus.prepare(streams(), buckets())
    slot = subjects.accepted(0, "s")
    accepted = SessionAccepted(session="s", plan=PLAN, input={}, deadline_ms=2**50)
    await Claims(bus).store_once(slot, *encode_event(accepted, slot))
    state = await journals.fold("s")
    assert state is not None
    return state


async def test_what_is_asked_of_a_session_that_has_ended_since() -> None:
    async with MemoryBus(MemoryServer()) as bus:
        journals = Journals(bus, 1)
        controls = Controls(bus, journals, {"s": await begun(bus, journals)})
        early = SignalRequest(session="s", name="go", id="early")
        assert (await controls.signal(early)).created
        end = subjects.end(0, "s")
        ended = SessionEnded(status="failed", error=ErrorInfo(code="broken", message="no"))
        await Claims(bus).store_once(end, *encode_event(ended, end))
        assert not (await controls.signal(early)).created
        for _ in range(2):
            with pytest.raises(Conflict, match="has ended already: failed"):
                await controls.signal(SignalRequest(session="s", name="go", id="late"))
        with pytest.raises(Conflict, match="has ended already: failed"):
            await controls.cancel("s", "")


async def test_who_asks_again_for_a_cancel_has_missed_the_answer() -> None:
    async with MemoryBus(MemoryServer()) as bus:
        journals = Journals(bus, 1)
        controls = Controls(bus, journals, {})
        await begun(bus, journals)
        await controls.cancel("s", "no need")
        end = subjects.end(0, "s")
        ended = SessionEnded(status="cancelled", error=ErrorInfo(code="cancelled", message="no need"))
        await Claims(bus).store_once(end, *encode_event(ended, end))
        await controls.cancel("s", "no need")
        with pytest.raises(Conflict, match="has ended already: cancelled"):
            await controls.pause("s")


async def test_an_errand_that_comes_after_the_end_harms_nobody() -> None:
    errands = Errands()
    async with anyio.create_task_group() as group:
        group.start_soon(errands.run)
        await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()

    async def never() -> None:
        raise AssertionError

    errands.add(never)
