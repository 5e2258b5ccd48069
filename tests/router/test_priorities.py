"""Runs of one pool by their priority: what is urgent overtakes what waits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from statistics import mean
from typing import Any

import anyio
import pytest

import dspex
from dspex_bus import EmbeddedServer
from dspex_bus.wire import PipelineDefinition
from dspex_services.handlers import Handlers, Step
from dspex_services.worker import WorkerConfig

from .inside import router, worker

pytestmark = pytest.mark.anyio


class Noting:
    """A handler that notes what it is given, and holds until it is let go where it is told to."""

    def __init__(self) -> None:
        self.noted: list[str] = []
        self.held = anyio.Event()
        self.go = anyio.Event()
        self.handlers = Handlers()

        @self.handlers.handler("note")
        async def note(values: dict[str, Any], step: Step) -> dict[str, Any]:
            self.noted.append(values["text"])
            if values["text"] == "hold":
                self.held.set()
                await self.go.wait()
            return {}


def noting(**more: Any) -> PipelineDefinition:
    return dspex.pipeline([dspex.native("note", pool="one", inputs={"text": "text"})], name="noting", **more)


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer() as started:
        yield started


async def test_what_is_urgent_overtakes_what_waits(server: EmbeddedServer) -> None:
    notes = Noting()
    low = noting(priority="low")
    async with (
        router(server),
        worker(server, notes.handlers, WorkerConfig(pool="one", slots=1)),
        dspex.connect(server.url) as client,
    ):
        await client.submit(noting(), {"text": "hold"})
        with anyio.fail_after(10):
            await notes.held.wait()
        handles = []
        for number in range(5):
            handles.append(await client.submit(low, {"text": f"low {number}"}))
            handles.append(await client.submit(noting(), {"text": f"normal {number}"}))
            handles.append(await client.submit(noting(), {"text": f"high {number}"}, priority="high"))
        pool = next(pool for pool in (await client.pools()).pools if pool.pool == "one")
        assert pool.queued + pool.running == 16
        notes.go.set()
        for handle in handles:
            assert (await handle.result(timeout_s=20)).status == "succeeded"
    lanes = [text.split()[0] for text in notes.noted[1:]]
    # One of each lane may have been in the worker's hands already.
    assert lanes.count("high") == lanes.count("normal") == lanes.count("low") == 5
    place = {lane: mean(at for at, one in enumerate(lanes) if one == lane) for lane in ("high", "normal", "low")}
    assert place["high"] < place["normal"] < place["low"], lanes
    for lane in ("high", "normal", "low"):
        numbers = [text.split()[1] for text in notes.noted[1:] if text.startswith(lane)]
        assert numbers == sorted(numbers)


async def test_a_child_runs_with_its_parent_s_priority(server: EmbeddedServer) -> None:
    notes = Noting()
    async with (
        router(server),
        worker(server, notes.handlers, WorkerConfig(pool="one", slots=1)),
        dspex.connect(server.url) as client,
    ):
        await client.put_pipeline(noting())
        parent = await client.submit(
            dspex.pipeline([dspex.subpipeline("noting")], name="parent"), {"text": "x"}, priority="high"
        )
        assert (await parent.result(timeout_s=20)).status == "succeeded"
        child = (await parent.view()).steps[0].child
        accepted = (await anext(client.session(child).events())).event
        assert accepted.priority == "high"  # type: ignore[union-attr]
