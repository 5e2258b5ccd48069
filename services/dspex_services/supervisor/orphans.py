"""Deliveries that were on their way to a worker when it died: no claim tells of them.

Whatever is delivered, neither acknowledged nor claimed by a worker that lives, now and a moment later, is one of these.
A task that is in truth only late in being claimed or acknowledged is delivered once too often, which does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import anyio

from dspex_bus import Bus, subjects
from dspex_bus.streams import TASKS


async def give_back_orphans(bus: Bus, pool: str, claimed: Callable[[], Collection[str]], moment_s: float) -> int:
    """How many there were. ``claimed`` tells the receipts that workers hold; a claim may be told ``moment_s`` late."""
    first = await _unclaimed(bus, pool, claimed, subjects.LANES)
    if not first:
        return 0
    await anyio.sleep(moment_s)
    again = await _unclaimed(bus, pool, claimed, first)
    receipts = [
        receipt for lane, found in again.items() for sequence, receipt in found.items() if sequence in first[lane]
    ]
    for receipt in receipts:
        await bus.give_back(receipt)
    return len(receipts)


async def _unclaimed(
    bus: Bus, pool: str, claimed: Callable[[], Collection[str]], lanes: Collection[str]
) -> dict[str, dict[int, str]]:
    """By lane, where there are any."""
    found = {lane: await bus.unclaimed(TASKS, subjects.durable(pool, lane), claimed()) for lane in lanes}
    return {lane: receipts for lane, receipts in found.items() if receipts}
