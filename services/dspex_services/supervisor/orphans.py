"""Deliveries that were on their way to a worker when it died: no claim tells of them.

Whatever is delivered, neither acknowledged nor claimed by a worker that lives, now and a moment later, is one of these.
A task that is in truth only late in being claimed or acknowledged is delivered once too often, which does no harm.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

import anyio

from dspex_bus import Bus, subjects
from dspex_bus.errors import DspexError
from dspex_bus.streams import TASKS

logger = logging.getLogger("dspex.supervisor")

_CLAIMED_S = 0.1
"""A delivery is claimed by then by whoever has it,"""
_TOLD_S = 1.2
"""and other supervisors have told of it."""
_TRIES = 5
_TRY_AGAIN_S = 1.0


class Orphans:
    """Looks for a pool's when it is told to. ``claimed`` tells the receipts that workers hold, ``others`` names the
    pool's workers that are not ours, and ``told`` those of others whose claims are among the claimed."""

    def __init__(
        self,
        bus: Bus,
        pool: str,
        claimed: Callable[[], Collection[str]],
        others: Callable[[], set[str]],
        told: Callable[[], set[str]],
    ) -> None:
        self._bus = bus
        self._pool = pool
        self._claimed = claimed
        self._others = others
        self._told = told
        self._wanted = anyio.Event()

    def look_soon(self) -> None:
        self._wanted.set()

    async def run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted = anyio.Event()
            for _ in range(_TRIES):
                others = self._others()
                if others <= self._told():
                    await self._look(_TOLD_S if others else _CLAIMED_S)
                    break
                # Of somebody who may only just have left, or have come, or has no supervisor, we know no claims.
                await anyio.sleep(_TRY_AGAIN_S)

    async def _look(self, moment_s: float) -> None:
        try:
            count = await give_back_orphans(self._bus, self._pool, self._claimed, moment_s)
        except DspexError as error:
            logger.warning("deliveries that got lost are not looked for, their ack wait will do it: %s", error)
            return
        if count:
            logger.info("%d tasks of the pool %s were on their way to a worker that died", count, self._pool)


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
