"""Steps under limits: no more at once, and no more a second, than is allowed, over all routers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import dspex
from dspex_bus import EmbeddedServer, NatsBus
from dspex_bus.errors import DspexError
from dspex_bus.streams import buckets, streams
from dspex_bus.wire import LimitDefinition, PipelineDefinition
from dspex_services.handlers import Handlers, Step
from dspex_services.worker import WorkerConfig

from .inside import router, worker

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer() as started:
        async with NatsBus(started.url) as bus:
            await bus.prepare(streams(), buckets())
        yield started


class Counting:
    """A handler that counts how many of it run at once."""

    def __init__(self) -> None:
        self.running = self.most = 0
        self.started: list[float] = []
        self.go = anyio.Event()
        self.handlers = Handlers()

        @self.handlers.handler("count")
        async def count(values: dict[str, Any], step: Step) -> dict[str, Any]:
            self.running += 1
            self.most = max(self.most, self.running)
            self.started.append(time.monotonic())
            try:
                await (self.go.wait() if values.get("hold") else anyio.sleep(0.01))
            finally:
                self.running -= 1
            return {}


def counting(**more: Any) -> PipelineDefinition:
    return dspex.pipeline([dspex.native("count", pool="one", **more)], name="counting")


async def ended(handles: list[dspex.Session]) -> None:
    for handle in handles:
        assert (await handle.result(timeout_s=30)).status == "succeeded"


async def test_no_more_at_once_than_allowed_by_two_routers(server: EmbeddedServer) -> None:
    counts = Counting()
    async with (
        router(server),
        router(server),
        worker(server, counts.handlers, WorkerConfig(pool="one", slots=16)),
        dspex.connect(server.url) as client,
    ):
        await client.put_limit(LimitDefinition(name="gpt", concurrency=3))
        handles = [await client.submit(counting(limits=("gpt",))) for _ in range(30)]
        others = [await client.submit(counting()) for _ in range(5)]
        await ended(handles + others)
        assert counts.most <= 3 + 5
        counts.most = 0
        await ended([await client.submit(counting(limits=("gpt",))) for _ in range(30)])
        assert counts.most == 3
        assert [view.definition.name for view in (await client.limits()).limits] == ["gpt"]


async def test_no_more_a_second_than_allowed(server: EmbeddedServer) -> None:
    counts = Counting()
    async with (
        router(server),
        worker(server, counts.handlers, WorkerConfig(pool="one", slots=16)),
        dspex.connect(server.url) as client,
    ):
        await client.put_limit(LimitDefinition(name="gpt", per_second=20, burst=1))
        await ended([await client.submit(counting(limits=("gpt",))) for _ in range(10)])
    assert counts.started[-1] - counts.started[0] >= 9 / 20 - 0.01


async def test_each_tenant_has_a_limit_of_its_own(server: EmbeddedServer) -> None:
    counts = Counting()
    hold = counting(hold=True)
    async with (
        router(server),
        worker(server, counts.handlers, WorkerConfig(pool="one", slots=16)),
        dspex.connect(server.url) as client,
    ):
        await client.put_limit(LimitDefinition(name="tenant.*", concurrency=2))
        await client.put_limit(LimitDefinition(name="tenant.big", concurrency=4))
        handles = []
        for _ in range(5):
            for tenant in ("a", "b", "big"):
                handles.append(await client.submit(hold, {"hold": True}, tenant=tenant))
        with anyio.fail_after(10):
            while counts.running < 8:
                await anyio.sleep(0.01)
        counts.go.set()
        await ended(handles)
        assert counts.most == 8


async def test_who_is_cancelled_waits_no_more_and_gives_its_permit_back(server: EmbeddedServer) -> None:
    counts = Counting()
    hold = counting(hold=True, limits=("gpt",))
    async with (
        router(server),
        worker(server, counts.handlers, WorkerConfig(pool="one", slots=4)),
        dspex.connect(server.url) as client,
    ):
        await client.put_limit(LimitDefinition(name="gpt", concurrency=1))
        first = await client.submit(hold, {"hold": True})
        with anyio.fail_after(10):
            while not counts.running:
                await anyio.sleep(0.01)
        second, third = await client.submit(hold, {"hold": True}), await client.submit(hold, {"hold": True})
        assert (await client.limits()).limits[0].held == 1
        for handle in (second, first):
            await handle.cancel()
            assert (await handle.result(timeout_s=10)).status == "cancelled"
        with anyio.fail_after(10):
            while len(counts.started) < 2:
                await anyio.sleep(0.01)
        counts.go.set()
        await ended([third])
        assert len(counts.started) == 2


async def test_permits_outlive_a_router(server: EmbeddedServer) -> None:
    """The next one finds who has them: the step is not counted twice, and the others go on waiting for it."""
    counts = Counting()
    hold = counting(hold=True, limits=("gpt",))
    async with (
        worker(server, counts.handlers, WorkerConfig(pool="one", slots=4)),
        dspex.connect(server.url) as client,
    ):
        async with router(server):
            await client.put_limit(LimitDefinition(name="gpt", concurrency=1))
            handles = [await client.submit(hold, {"hold": True}) for _ in range(3)]
            with anyio.fail_after(10):
                while not counts.running:
                    await anyio.sleep(0.01)
        async with router(server):
            assert (await client.limits()).limits[0].held == 1
            counts.go.set()
            await ended(handles)
    assert (counts.most, len(counts.started)) == (1, 3)


async def test_a_limit_taken_away_lets_everybody_through(server: EmbeddedServer) -> None:
    counts = Counting()
    hold = counting(hold=True, limits=("gpt",))
    async with (
        router(server),
        worker(server, counts.handlers, WorkerConfig(pool="one", slots=4)),
        dspex.connect(server.url) as client,
    ):
        await client.put_limit(LimitDefinition(name="gpt", concurrency=1))
        handles = [await client.submit(hold, {"hold": True}) for _ in range(3)]
        with anyio.fail_after(10):
            while not counts.running:
                await anyio.sleep(0.01)
        await client.delete_limit("gpt")
        with anyio.fail_after(10):
            while counts.running < 3:
                await anyio.sleep(0.01)
        counts.go.set()
        await ended(handles)
        with pytest.raises(DspexError, match="no limit 'gpt'"):
            await client.delete_limit("gpt")
        with pytest.raises(DspexError, match="limits nothing"):
            await client.put_limit(LimitDefinition(name="gpt"))
