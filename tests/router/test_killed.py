"""A router that is killed in mid-run, and a worker: the session goes on and ends once."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest

import dspex
from dspex_bus import EmbeddedServer
from dspex_bus.wire import SessionEnded, StepSucceeded, StoredEvent

from .test_replicas import native_pool, router

pytestmark = pytest.mark.anyio

WORDS = [f"w{number}" for number in range(60)]
BUSY = dspex.pipeline(
    [
        dspex.map("words", [dspex.native("template", template="{{ item }}!"), dspex.sleep(0.02)], limit=4),
        dspex.native("template", template="{{ text | length }} words"),
    ]
)


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer() as started:
        yield started


def check(events: list[StoredEvent], result: dspex.RunResult) -> None:
    """The history of one session: one end, after everything else, and one success for each step."""
    assert result.output == {"text": "60 words"}
    assert [isinstance(event.event, SessionEnded) for event in events] == [False] * (len(events) - 1) + [True]
    successes = Counter(event.node for event in events if isinstance(event.event, StepSucceeded))
    assert len(successes) == 2 * len(WORDS) + 1
    assert set(successes.values()) == {1}
    sequences = [event.sequence for event in events]
    assert sequences == sorted(set(sequences))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kills", [[50], pytest.param([10, 50, 100], marks=pytest.mark.slow)])
async def test_a_router_killed_in_mid_run(server: EmbeddedServer, kills: list[int]) -> None:
    with ExitStack() as stack:
        running = stack.enter_context(router(server))
        stack.enter_context(native_pool(server))
        async with dspex.connect(server.url) as client:
            handle = await client.submit(BUSY, {"words": WORDS})
            events: list[StoredEvent] = []
            kills = [*kills]
            async for event in handle.events():
                events.append(event)
                if kills and len(events) >= kills[0]:
                    kills.pop(0)
                    running.kill()
                    running = stack.enter_context(router(server))
            assert not kills
            check(events, await handle.result(timeout_s=20))


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_workers_killed_in_mid_run(server: EmbeddedServer) -> None:
    with router(server), native_pool(server):
        async with dspex.connect(server.url) as client:
            handle = await client.submit(BUSY, {"words": WORDS}, timeout_s=100)
            events: list[StoredEvent] = []
            kills = [20, 80]
            async for event in handle.events():
                events.append(event)
                if kills and len(events) >= kills[0]:
                    kills.pop(0)
                    (pool,) = [pool for pool in (await client.pools()).pools if pool.pool == "native"]
                    newest = max(pool.workers, key=lambda worker: worker.started_ms)
                    os.kill(newest.pid, signal.SIGKILL)
            assert not kills
            check(events, await handle.result(timeout_s=20))
