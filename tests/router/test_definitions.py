"""A pipeline that was changed is what the next run starts with, whichever router takes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import anyio
import pytest

import dspex
from dspex_bus import EmbeddedServer, NatsBus
from dspex_bus.errors import NotFound
from dspex_bus.streams import buckets, streams
from dspex_bus.wire import PipelineDefinition, PipelinePut, PipelineRequest
from dspex_router.plan import Reference
from dspex_router.shell import definitions
from dspex_router.shell.definitions import Definitions
from dspex_router.shell.pipelines import Pipelines

pytestmark = pytest.mark.anyio
NAME = Reference("greet")


def greeting(text: str) -> PipelinePut:
    return PipelinePut(definition=dspex.pipeline([dspex.native("template", template=text)], name="greet"))


def said(definition: PipelineDefinition) -> object:
    return definition.steps[0].with_["template"]


async def gone(pipelines: Pipelines) -> None:
    with anyio.fail_after(5):
        while True:
            try:
                await pipelines.definition(NAME)
            except NotFound:
                return
            await anyio.sleep(0.001)


@pytest.fixture
async def two() -> AsyncIterator[tuple[Pipelines, Pipelines]]:
    """Two routers' pipelines, each on a connection of its own."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedServer())
        found = []
        for _ in range(2):
            bus = await stack.enter_async_context(NatsBus(server.url))
            await bus.prepare(streams(), buckets())
            kept = Definitions(bus)
            await stack.enter_async_context(kept.following())
            found.append(Pipelines(bus, kept))
        yield found[0], found[1]


async def test_a_change_is_seen_at_once_where_it_was_made(two: tuple[Pipelines, Pipelines]) -> None:
    here, _ = two
    for number in range(20):
        await here.put(greeting(str(number)))
        assert said(await here.definition(NAME)) == str(number)


async def test_another_router_hears_of_a_change(
    two: tuple[Pipelines, Pipelines], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(definitions, "FRESH_S", 3600.0)
    here, there = two
    await here.put(greeting("before"))
    assert said(await there.definition(NAME)) == "before"
    await here.put(greeting("after"))
    with anyio.fail_after(5):
        while said(await there.definition(NAME)) != "after":
            await anyio.sleep(0.001)
    await here.delete(PipelineRequest(name="greet"))
    await gone(there)


async def test_a_change_that_nobody_told_is_seen_after_a_while(
    two: tuple[Pipelines, Pipelines], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(definitions, "FRESH_S", 0.05)
    here, _ = two
    await here.put(greeting("told"))
    assert said(await here.definition(NAME)) == "told"
    bucket = here._bucket
    for key in await bucket.keys("greet.>"):
        await bucket.delete(key)
    await gone(here)


async def test_what_was_looked_up_while_it_changed_is_not_kept(two: tuple[Pipelines, Pipelines]) -> None:
    here, _ = two
    await here.put(greeting("old"))
    kept = here._definitions
    old = await here.definition(NAME)
    await kept.changed()

    async def look(_reference: Reference) -> PipelineDefinition:
        await here.put(greeting("new"))  # meanwhile
        return old

    assert said(await kept.get(NAME, look)) == "old"
    assert said(await here.definition(NAME)) == "new"
