"""One suite for every bus: each test runs against the bus in memory and against NATS."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

from dspex_bus import Bus, EmbeddedServer, MemoryBus, MemoryServer, Message, NatsBus
from dspex_bus.streams import BucketSpec, StreamSpec


class Gathered:
    """What callbacks were given, in order, and a bounded wait for it."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self._came = anyio.Event()

    async def put(self, item: Any) -> None:
        self.all.append(item)
        self._came.set()
        self._came = anyio.Event()

    async def until(self, holds: Callable[[list[Any]], bool], seconds: float = 5) -> list[Any]:
        with anyio.fail_after(seconds):
            while not holds(self.all):
                await self._came.wait()
        return self.all

    async def count(self, count: int, seconds: float = 5) -> list[Any]:
        return await self.until(lambda items: len(items) >= count, seconds)


class Place:
    """Names of one test's own, so that tests share a server and nothing else."""

    def __init__(self, buses: Callable[[], Bus], stack: AsyncExitStack) -> None:
        self._buses = buses
        self._stack = stack
        self.id = f"t{uuid.uuid4().hex[:10]}"
        self.stream = f"S_{self.id}"
        self.tasks = f"W_{self.id}"
        self.bucket = f"b_{self.id}"
        self.expiring = f"e_{self.id}"

    def subject(self, rest: str) -> str:
        return f"{self.id}.{rest}"

    async def bus(self) -> Bus:
        """Another client of the same server."""
        return await self._stack.enter_async_context(self._buses())  # type: ignore[arg-type]

    def specs(self) -> tuple[list[StreamSpec], list[BucketSpec]]:
        return (
            [
                StreamSpec(
                    name=self.stream,
                    subjects=(f"{self.id}.log.>",),
                    republish=(f"{self.id}.log.>", f"{self.id}.said.>"),
                    storage="memory",
                    metadata={"color": "blue"},
                ),
                StreamSpec(name=self.tasks, subjects=(f"{self.id}.task.>",), storage="memory", work_queue=True),
                StreamSpec(name=f"T_{self.id}", subjects=(f"{self.id}.timed.>",), storage="memory", schedules=True),
            ],
            [
                BucketSpec(name=self.bucket, storage="memory"),
                BucketSpec(name=self.expiring, storage="memory", ttl=True),
            ],
        )


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def nats_server() -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer() as server:
        yield server


@pytest.fixture(params=["memory", "nats"])
async def place(request: pytest.FixtureRequest, nats_server: EmbeddedServer) -> AsyncIterator[Place]:
    memory = MemoryServer()

    def open_bus() -> Bus:
        return MemoryBus(memory) if request.param == "memory" else NatsBus(nats_server.url, name="conformance")

    async with AsyncExitStack() as stack:
        yield Place(open_bus, stack)


@pytest.fixture
async def bus(place: Place) -> Bus:
    """A bus whose streams and buckets are there."""
    made = await place.bus()
    await made.prepare(*place.specs())
    return made


@pytest.fixture
def gathered() -> Gathered:
    return Gathered()


def data_of(items: list[Message]) -> list[bytes]:
    return [item.data for item in items]
