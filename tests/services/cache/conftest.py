"""Two processes' caches on one bus, the one in memory and the real one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from dspex_bus import Bus, EmbeddedServer, MemoryBus, MemoryServer, NatsBus
from dspex_bus.streams import buckets
from dspex_services.cache import Cache


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


Connect = Callable[[str], Bus]


@pytest.fixture(params=["memory", "nats"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    if request.param == "memory":
        shared = MemoryServer()
        async with MemoryBus(shared) as bus:
            await bus.prepare([], buckets())
            yield lambda name: MemoryBus(shared, name=name)
        return
    async with EmbeddedServer() as server:
        async with NatsBus(server.url, name="setup") as bus:
            await bus.prepare([], buckets())
        yield lambda name: NatsBus(server.url, name=name)


@pytest.fixture
async def caches(connect: Connect) -> AsyncIterator[Callable[..., Any]]:
    """Makes a cache of a process of its own."""
    async with AsyncExitStack() as stack:

        async def make(name: str = "one", **options: Any) -> Cache:
            bus = await stack.enter_async_context(connect(name))
            return await stack.enter_async_context(Cache(bus, **options))

        yield make
