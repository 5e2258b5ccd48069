"""Admission: runs that would only wait are turned away at the door, and what is accepted is done in bounded time."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import anyio

from dspex_bus import Bus, subjects
from dspex_bus.errors import DspexError, NotFound, Unavailable
from dspex_bus.streams import TASKS
from dspex_bus.wire import Node, PipelineNode, Plan, TaskNode, members

from .config import RouterConfig
from .presence import Presence

log = logging.getLogger(__name__)

_LOOK_S = 0.5
_LONGEST_WAIT_S = 60
_PLANS_KEPT = 1024
_NONE: Counter[str] = Counter()


class Overloaded(Unavailable):
    """``retry_after_s`` in the details says when to try again."""

    code = "overloaded"
    status = 429


class Admission:
    """Looks at the pools' queues twice a second, and counts what it lets in between looks.

    ``counts`` are each pool's tasks, queued and running, over all its lanes, as of the last look.
    """

    def __init__(self, bus: Bus, config: RouterConfig, presence: Presence) -> None:
        self._bus = bus
        self._config = config
        self._presence = presence
        self.counts: dict[str, Counter[str]] = {}
        self._done_per_s: dict[str, float] = {}
        self._let_in: Counter[str] = Counter()
        self._task_bytes = 0
        self._looked_at = 0.0
        self._pools: dict[str, frozenset[str]] = {}

    async def watch(self) -> None:
        """Run for as long as the router does."""
        while True:
            try:
                await self.look()
            except DspexError as error:
                log.debug("the queues could not be looked at: %s", error)
            await anyio.sleep(_LOOK_S)

    async def look(self) -> None:
        let_in, self._let_in = self._let_in, Counter()
        before_s, self._looked_at = self._looked_at, anyio.current_time()
        passed_s = max(self._looked_at - before_s, 0.001)
        for pool in sorted(self._presence.pools):
            counts = await self._count(pool)
            before = self.counts.get(pool, counts)
            done = (before["queued"] - counts["queued"] + let_in[pool]) / passed_s
            self._done_per_s[pool] = 0.5 * self._done_per_s.get(pool, 0.0) + 0.5 * max(0.0, done)
            self.counts[pool] = counts
        with suppress(NotFound):
            self._task_bytes = (await self._bus.stream_info(TASKS))["bytes"]

    async def _count(self, pool: str) -> Counter[str]:
        counts: Counter[str] = Counter()
        for lane in subjects.LANES:
            with suppress(NotFound):
                info = await self._bus.consumer_info(TASKS, subjects.durable(pool, lane))
                counts.update(
                    queued=info["pending"], running=info["ack_pending"], redelivered=info.get("redelivered", 0)
                )
        return counts

    def check(self, plan: Plan, live: int) -> None:
        """Raises Overloaded where one of the plan's pools has its queue full, or this router its hands."""
        if live >= self._config.sessions:
            raise _overloaded(f"{live:,} sessions are live in this router already", 1, sessions=live)
        if self._task_bytes >= self._config.task_bytes:
            raise _overloaded(f"the tasks that wait have {self._task_bytes:,} bytes", 1, task_bytes=self._task_bytes)
        pools = self._pools_of(plan)
        for pool in pools:
            queued = self.counts.get(pool, _NONE)["queued"] + self._let_in[pool]
            if queued >= self._config.pool_queue:
                wait_s = self._wait_s(pool, queued)
                raise _overloaded(
                    f"{queued:,} steps wait for the pool {pool} already", wait_s, pool=pool, queued=queued
                )
        self._let_in.update(pools)

    def _wait_s(self, pool: str, queued: int) -> int:
        """How long it takes until a tenth of the queue is done, as things go."""
        done_per_s = self._done_per_s.get(pool, 0.0)
        if done_per_s <= 0:
            return _LONGEST_WAIT_S
        excess = queued - 0.9 * self._config.pool_queue
        return max(1, min(_LONGEST_WAIT_S, round(excess / done_per_s)))

    def _pools_of(self, plan: Plan) -> frozenset[str]:
        pools = self._pools.get(plan.digest)
        if pools is None:
            if len(self._pools) >= _PLANS_KEPT:
                self._pools.clear()
            pools = self._pools[plan.digest] = frozenset(_pools(plan.root))
        return pools


def _pools(node: Node) -> Iterator[str]:
    match node:
        case TaskNode():
            yield node.pool
        case PipelineNode():
            yield from _pools(node.plan.root)
        case _:
            for below in members(node):
                yield from _pools(below)


def _overloaded(what: str, wait_s: int, **details: int | str) -> Overloaded:
    return Overloaded(f"{what}; try again in {wait_s} s", details={**details, "retry_after_s": wait_s})
