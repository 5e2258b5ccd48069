"""Steps that travel together, where a whole system does not do: limits of one's own, a worker that dies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

import dspex
from dspex_bus import EmbeddedServer
from dspex_bus.wire import StepDefinition, StepSucceeded
from dspex_router.shell import RouterConfig
from dspex_services.handlers import Handlers
from dspex_services.worker import WorkerConfig

from .inside import router, worker

pytestmark = pytest.mark.anyio


class Text(msgspec.Struct, frozen=True, kw_only=True):
    text: str


def handlers() -> Handlers:
    offered = Handlers()

    @offered.handler("swell")
    async def swell(values: dict[str, Any]) -> Text:
        return Text(text="y" * 600_000)

    @offered.handler("measure", pure=True)
    async def measure(request: Text) -> dict[str, int]:
        return {"size": len(request.text)}

    return offered


def measured(field: str) -> StepDefinition:
    return dspex.native("measure", inputs={"text": field}, outputs={"size": f"of_{field}"})


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer() as started:
        yield started


@pytest.mark.parametrize("durability", ["stored", "none"])
async def test_what_nothing_can_carry_together_travels_apart(server: EmbeddedServer, durability: str) -> None:
    swell = dspex.native("swell", outputs={"text": "b"})
    pipeline = dspex.pipeline([swell, measured("a"), measured("b")], output=["of_a", "of_b"])
    async with (
        router(server, RouterConfig(largest_bytes=700_000)),
        worker(server, handlers(), WorkerConfig(pool="one")),
        dspex.connect(server.url) as client,
    ):
        result = await client.run(pipeline, {"a": "x" * 600_001}, session="s1", durability=durability)
        assert result.output == {"of_a": 600_001, "of_b": 600_000}
        if durability == "stored":
            events = [event async for event in client.session("s1").events() if isinstance(event.event, StepSucceeded)]
            assert len({event.sequence for event in events}) == 3
