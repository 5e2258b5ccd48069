"""What a router still has in hand of partitions that are not its own any more."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_bus import MemoryBus, MemoryServer, subjects
from dspex_bus.claim import Claims
from dspex_bus.streams import EVENTS, buckets, streams
from dspex_bus.wire import Plan, SequenceNode, SessionAccepted, WaitNode, encode_event
from dspex_router.shell.config import RouterConfig
from dspex_router.shell.errands import Errands
from dspex_router.shell.journals import Journals
from dspex_router.shell.limits import Limits
from dspex_router.shell.owner import Owner
from dspex_router.shell.parked import Parked
from dspex_router.shell.parking import Parking
from dspex_router.shell.recovery import Recovery
from dspex_router.shell.young import Young

pytestmark = pytest.mark.anyio

WAIT = WaitNode(id="0", name="wait", signal="go")
PLAN = Plan(pipeline="p", digest="d", root=SequenceNode(id="root", name="p", children=(WAIT,)))


@pytest.mark.parametrize("now", ["owned", "given up", "taken over again"])
async def test_no_checkpoint_passes_a_start_that_is_in_no_index(now: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither while the partition is ours, nor when we have given it up and forgotten what began in it, nor while it is
    taken over again."""
    async with MemoryBus(MemoryServer()) as bus:
        await bus.prepare(streams(partitions=1), buckets())
        config, journals, parked = RouterConfig(), Journals(bus, 1), Parked(bus)
        young = Young(bus, lambda: True)
        errands = Errands()
        owner = Owner(bus, config, errands, journals, Limits(bus), lambda _=None: True, young)
        parking = Parking(bus, config, owner, Recovery(bus, config, owner, journals), journals, parked, young)
        owner.own(frozenset({0}))
        await parking.claim([0])
        await parking.catch_up([0])
        for session in ("before", "young"):
            slot = subjects.accepted(0, session)
            accepted = SessionAccepted(session=session, plan=PLAN, input={}, deadline_ms=2**50)
            await Claims(bus).store_once(slot, *encode_event(accepted, slot))
            stored = await bus.last(EVENTS, slot)
            assert stored is not None
            await owner.on_stored(stored)
        await young.put(0, "before")
        if now != "owned":
            owner.own(frozenset())
        for hold in parking._holds.values():
            hold.marked_at = -1_000_000.0
        if now == "taken over again":
            asked = bus.stream_info

            async def looked_at_meanwhile(stream: str) -> dict[str, Any]:
                await parking._mark()
                return await asked(stream)

            monkeypatch.setattr(bus, "stream_info", looked_at_meanwhile)
            owner.own(frozenset({0}))
            await parking.claim([0])
        await parking._mark()
        await parking._send.aclose()
        await parking._receive.aclose()
        mark, _ = await parked.checkpoint(0)
        assert mark is not None
        assert mark.sequence == (stored.sequence - 1 if now == "owned" else 0)
