"""Answers to what is stored: a subject for an answer is used again only where no second answer can come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import nats
import pytest
from nats.aio.msg import Msg

from dspex_bus import EmbeddedServer, NatsBus, Stored
from dspex_bus.nats.replies import RESTING
from dspex_bus.streams import buckets, streams

from .links import Link

pytestmark = pytest.mark.anyio

MANY = 3 * RESTING


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer() as started:
        yield started


class Heard:
    """The subjects to which the server answered, in order: somebody else's subscription to the bus's inbox."""

    def __init__(self) -> None:
        self.subjects: list[str] = []
        self._more = asyncio.Event()

    async def _on_message(self, message: Msg) -> None:
        self.subjects.append(message.subject)
        self._more.set()

    async def at_least(self, count: int) -> None:
        with anyio.fail_after(20):
            while len(self.subjects) < count:
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def heard_by(server: EmbeddedServer, bus: NatsBus) -> AsyncIterator[Heard]:
    heard = Heard()
    client = await nats.connect(server.url)
    try:
        await client.subscribe(f"{bus._replies._inbox}.*", cb=heard._on_message)
        await client.flush()
        yield heard
    finally:
        await client.close()


async def _store(bus: NatsBus, first: int, count: int) -> list[Stored | Exception]:
    """All of them under way at the same time."""
    results: list[Stored | Exception] = []
    done = asyncio.Event()

    def then(result: Stored | Exception) -> None:
        results.append(result)
        if len(results) == count:
            done.set()

    for number in range(first, first + count):
        await bus.store(f"dspex.v1.journal.0.s.step.p.{number}.1", b"{}", once=True, then=then)
    with anyio.fail_after(20):
        await done.wait()
    return results


async def test_subjects_of_answers_are_used_again_after_a_rest(
    server: EmbeddedServer,
) -> None:
    async with NatsBus(server.url) as bus:
        await bus.prepare(streams(), buckets())
        async with heard_by(server, bus) as heard:
            for number in range(MANY):
                [result] = await _store(bus, number, 1)
                assert isinstance(result, Stored)
                assert result.created
            await heard.at_least(MANY)
        assert len(heard.subjects) == MANY
        assert len(set(heard.subjects)) == RESTING + 1
        for place, subject in enumerate(heard.subjects):
            assert subject not in heard.subjects[max(0, place - RESTING) : place]


async def test_what_is_stored_at_the_same_time_has_subjects_of_its_own(server: EmbeddedServer) -> None:
    async with NatsBus(server.url) as bus:
        await bus.prepare(streams(), buckets())
        sequences: set[int] = set()
        for turn in range(4):
            results = await _store(bus, turn * MANY, MANY)
            sequences |= {result.sequence for result in results if isinstance(result, Stored) and result.created}
        assert len(sequences) == 4 * MANY


async def test_the_subject_of_what_was_sent_twice_is_not_used_again(server: EmbeddedServer) -> None:
    """Both may be answered, the second when another message waits for its answer."""
    async with Link(server.port) as link, NatsBus(link.url) as bus:
        await bus.prepare(streams(), buckets())
        async with heard_by(server, bus) as heard:
            async with anyio.create_task_group() as group:
                link.freeze()
                group.start_soon(_store, bus, 0, 1)
                await anyio.sleep(0.05)
                await bus._stores.send_again()
                link.thaw()
            await heard.at_least(2)
            twice = heard.subjects[0]
            await _store(bus, 1, MANY)
            await _store(bus, 1 + MANY, MANY)
            await heard.at_least(2 * MANY + 2)
            assert heard.subjects.count(twice) == 2
            assert twice not in heard.subjects[2:]
