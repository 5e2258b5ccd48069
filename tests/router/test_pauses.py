"""A pipeline within is paused and resumed with the run that started it, whoever dies in between."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest

import dspex
from dspex_bus import EmbeddedServer, NatsBus, subjects
from dspex_bus.claim import Claims
from dspex_bus.streams import DEFAULT_PARTITIONS
from dspex_bus.wire import SessionPaused, SessionResumed, encode_event
from dspex_router.shell.controlling import Controls
from dspex_router.shell.journals import Journals

from .inside import router

pytestmark = pytest.mark.anyio

CHILD = dspex.pipeline([dspex.wait("go")], name="child")
PARENT = dspex.pipeline([dspex.subpipeline("child")], name="parent")


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer() as started:
        yield started


async def child_of(client: dspex.Client, parent: dspex.Session) -> dspex.Session:
    with anyio.fail_after(10):
        while not (child := (await parent.view()).steps[0].child):
            await anyio.sleep(0.01)
    return client.session(child)


async def until_paused(session: dspex.Session, paused: bool) -> None:
    with anyio.fail_after(15):
        while True:
            try:
                if (await session.view()).paused is paused:
                    return
            except dspex.DspexError:  # no router, or no such session yet
                pass
            await anyio.sleep(0.02)


async def stored(server: EmbeddedServer, session: str, number: int, event: SessionPaused | SessionResumed) -> None:
    """As a router stores it that dies before it has done anything about it."""
    async with NatsBus(server.url) as bus:
        partition = subjects.partition_of(session, DEFAULT_PARTITIONS)
        slot = subjects.control(partition, session, number)
        assert (await Claims(bus).store_once(slot, *encode_event(event, slot))).created


async def test_what_a_dead_router_did_not_pass_on(server: EmbeddedServer) -> None:
    async with dspex.connect(server.url) as client:
        async with router(server):
            await client.put_pipeline(CHILD)
            parent = await client.submit(PARENT)
            child = await child_of(client, parent)
            await until_paused(child, False)
        await stored(server, parent.id, 0, SessionPaused())
        async with router(server):
            await until_paused(child, True)
        await stored(server, parent.id, 1, SessionResumed())
        async with router(server):
            await until_paused(child, False)
            await child.signal("go")
            assert (await parent.result(timeout_s=15)).status == "succeeded"


async def test_a_pause_that_is_taken_back_while_it_is_passed_on(server: EmbeddedServer) -> None:
    """Its errand may well be the slower one."""
    async with dspex.connect(server.url) as client, NatsBus(server.url) as bus:
        async with router(server):
            await client.put_pipeline(CHILD)
            parent = await client.submit(PARENT)
            child = await child_of(client, parent)
            await until_paused(child, False)
        journals = Journals(bus, DEFAULT_PARTITIONS)
        state = await journals.fold(parent.id)
        assert state is not None
        controls = Controls(bus, journals, {parent.id: state})
        state.paused = True
        async with anyio.create_task_group() as group:
            group.start_soon(controls.follow, child.id, parent.id)
            await anyio.lowlevel.checkpoint()
            state.paused = False
            group.start_soon(controls.follow, child.id, parent.id)
        folded = await journals.fold(child.id)
        assert folded is not None
        assert (folded.paused, folded.controls) == (False, 2)
