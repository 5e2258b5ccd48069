"""Routers and workers in the test's own process, each on a connection of its own to a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from dspex_bus import EmbeddedServer, NatsBus
from dspex_router.shell import Router, RouterConfig
from dspex_services.handlers import Handlers
from dspex_services.worker import Worker, WorkerConfig


@asynccontextmanager
async def router(server: EmbeddedServer, config: RouterConfig | None = None) -> AsyncIterator[None]:
    async with NatsBus(server.url, name="router") as bus, anyio.create_task_group() as group:
        await group.start(Router(bus, config).run)
        yield
        group.cancel_scope.cancel()


@asynccontextmanager
async def worker(server: EmbeddedServer, handlers: Handlers, config: WorkerConfig) -> AsyncIterator[Worker]:
    async with NatsBus(server.url, name=config.name) as bus, anyio.create_task_group() as group:
        made = Worker(bus, handlers, config)
        await group.start(made.run)
        yield made
        group.cancel_scope.cancel()
