"""``pools.list``: workers by their announcements, queues by the server's counts."""

from __future__ import annotations

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
        try:
            counts = await self._bus.consumer_info(TASKS, subjects.durable(pool))
        except NotFound:
            counts = {}
        return PoolStatus(
            pool=pool,
            workers=tuple(workers),
            slots=sum(worker.slots for worker in workers),
            busy=sum(worker.busy for worker in workers),
            queued=counts.get("pending", 0),
            running=counts.get("ack_pending", 0),
            redelivered=counts.get("redelivered", 0),
        )
