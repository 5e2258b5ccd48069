"""Pools of worker processes, and the supervisor that keeps them."""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack

import anyio
from anyio.abc import TaskStatus

from dspex_bus import NatsBus, names
from dspex_bus.errors import Disconnected
from dspex_bus.wire import WorkerClaims

from ..errors import SetupError
from ..worker.spec import PoolSpec
from .guard import Guard
from .neighbours import Neighbours
from .pool import Pool

logger = logging.getLogger("dspex.supervisor")

_RETRY_S = 1.0


class Supervisor:
    """Keeps every pool's workers running.

        await group.start(Supervisor("nats://127.0.0.1:4222", specs).run)

    ``run`` waits for the server, reports readiness when every worker is ready, and runs until cancelled; then every
    worker drains. A worker that ends is replaced, with a delay that doubles while they keep ending; what it held is
    delivered to others at once. Raises SetupError when a pool cannot be set up, and later when none can any more.
    """

    def __init__(self, server: str, specs: Sequence[PoolSpec]) -> None:
        self._server = server
        self._specs = tuple(specs)
        self._pools: list[Pool] = []
        self._serving: set[Pool] = set()
        self._started = False

    @property
    def pools(self) -> tuple[Pool, ...]:
        return tuple(self._pools)

    @property
    def restarts(self) -> int:
        return sum(pool.restarts for pool in self._pools)

    @property
    def serving(self) -> set[str]:
        """The pools that can still be served."""
        return {pool.spec.pool for pool in self._serving}

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        async with AsyncExitStack() as stack:
            bus = await self._connected(stack)
            guard = stack.enter_context(Guard())
            id = f"{names.safe(socket.gethostname().split('.')[0])[:24]}-{secrets.token_hex(4)}"
            neighbours = Neighbours(bus, id, [spec.pool for spec in self._specs], self._claims, self._search)
            self._pools = [Pool(self._server, spec, bus, guard, neighbours) for spec in self._specs]
            async with anyio.create_task_group() as group:
                await group.start(neighbours.run)
                async with anyio.create_task_group() as starting:
                    for pool in self._pools:
                        starting.start_soon(group.start, self._serve, pool)
                self._started = True
                task_status.started()

    async def _connected(self, stack: AsyncExitStack) -> NatsBus:
        while True:
            try:
                return await stack.enter_async_context(NatsBus(self._server, name="dspex-supervisor"))
            except Disconnected as error:
                logger.warning("%s; trying again", error)
                await anyio.sleep(_RETRY_S)

    async def _serve(self, pool: Pool, *, task_status: TaskStatus[None]) -> None:
        """A pool that cannot go on takes no other with it, as long as there is another."""
        self._serving.add(pool)
        try:
            await pool.run(task_status=task_status)
        except* SetupError as errors:
            self._serving.discard(pool)
            if not self._started or not self._serving:
                raise
            logger.error("%s; the other pools go on", errors.exceptions[0])

    def _search(self) -> None:
        for pool in self._pools:
            pool.search()

    def _claims(self) -> Iterable[WorkerClaims]:
        return (claims for pool in self._pools for claims in pool.claims())
