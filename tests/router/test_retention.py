"""Journals are kept for a while after their session's end, and those of live sessions for as long as they live."""

from __future__ import annotations

import anyio
import pytest

import dspex
from dspex_bus import EmbeddedServer, NatsBus, subjects
from dspex_bus.streams import EVENTS
from dspex_router import Router, RouterConfig

pytestmark = pytest.mark.anyio


async def test_sessions_that_ended_are_purged_and_live_ones_are_not() -> None:
    config = RouterConfig(retention_s=0.0, purge_s=0.05)
    ends = dspex.pipeline([dspex.wait("never", timeout_s=0.05, default={"x": 1})])
    lives = dspex.pipeline([dspex.wait("go")])
    async with EmbeddedServer() as server, NatsBus(server.url, name="router") as bus:
        router = Router(bus, config)
        async with dspex.connect(server.url) as client, anyio.create_task_group() as group:
            await group.start(router.run)
            living = await client.submit(lives)
            ending = await client.submit(ends)
            with anyio.fail_after(15):
                while await _stored(bus, ending.id):
                    await anyio.sleep(0.02)
            with pytest.raises(dspex.DspexError) as refusal:
                await ending.view()
            assert refusal.value.code == "unknown_session"
            assert await _stored(bus, living.id) == 1
            await living.signal("go", {"said": 1})
            assert (await living.result(timeout_s=10)).output == {"said": 1}
            group.cancel_scope.cancel()


async def _stored(bus: NatsBus, session: str) -> int:
    pattern = subjects.session_journal(subjects.partition_of(session, 16), session)
    return len([message async for message in bus.history(EVENTS, pattern)])
