"""``pools.list``: workers by their announcements, queues by the server's counts."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from dspex_bus import Bus, subjects
from dspex_bus.errors import NotFound
from dspex_bus.streams import TASKS
from dspex_bus.wire import PoolList, PoolStatus

from .presence import Presence


class Pools:
    def __init__(self, bus: Bus, presence: Presence) -> None:
        self._bus = bus
        self._presence = presence

    async def list(self) -> PoolList:
        return PoolList(pools=tuple([await self._status(pool) for pool in sorted(self._presence.pools)]))

    async def _status(self, pool: str) -> PoolStatus:
        workers = self._presence.workers(pool)
        counts = await self._counts(pool)
        return PoolStatus(
            pool=pool,
            workers=tuple(workers),
            slots=sum(worker.slots for worker in workers),
            busy=sum(worker.busy for worker in workers),
            queued=counts["pending"],
            oldest_wait_ms=counts["oldest_wait_ms"],
            running=counts["ack_pending"],
            redelivered=counts["redelivered"],
        )

    async def _counts(self, pool: str) -> Counter[str]:
        """Of all its lanes together."""
        counts: Counter[str] = Counter()
        oldest_ms = 0
        for lane in subjects.LANES:
            with suppress(NotFound):
                counts.update(found := await self._bus.consumer_info(TASKS, subjects.durable(pool, lane)))
                oldest_ms = max(oldest_ms, found["oldest_wait_ms"])
        counts["oldest_wait_ms"] = oldest_ms
        return counts
