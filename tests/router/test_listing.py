"""Which sessions there are, and were: the newest, however many came before them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

import dspex
from dspex_bus import EmbeddedServer, NatsBus, subjects
from dspex_bus.streams import DEFAULT_PARTITIONS
from dspex_bus.wire import SessionList, SessionListRequest
from dspex_router.shell import listing

from .inside import router

pytestmark = pytest.mark.anyio

NAP = dspex.pipeline([dspex.sleep(0.001)], name="nap")
WAIT = dspex.pipeline([dspex.wait("go")], name="waits")


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer() as started:
        yield started


async def told(client: dspex.Client, limit: int, *, ended: bool = True) -> list[tuple[str, str, str]]:
    found = (await client.sessions(limit=limit, ended=ended)).sessions
    assert all(summary.accepted_ms <= summary.ended_ms for summary in found if summary.status != "running")
    return [(summary.session, summary.pipeline, summary.status) for summary in found]


async def test_the_newest_first_however_far_back(server: EmbeddedServer) -> None:
    async with dspex.connect(server.url) as client, router(server):
        ids = [(await client.run(NAP, {})).session for _ in range(5)]
        ended = [(id, "nap", "succeeded") for id in ids[::-1]]
        assert await told(client, 3) == ended[:3]
        waits = await client.submit(WAIT)
        running = (waits.id, "waits", "running")
        for number in range(100):  # more than what is looked at first
            await waits.signal("other", id=str(number))
        assert await told(client, 2) == [running, ended[0]]
        assert await told(client, 50) == [running, *ended]
        assert await told(client, 50, ended=False) == [running]


async def test_one_that_cannot_be_read_is_in_nobody_s_way(server: EmbeddedServer) -> None:
    async with dspex.connect(server.url) as client, NatsBus(server.url) as bus, router(server):
        done = (await client.run(NAP, {})).session
        partition = subjects.partition_of("broken", DEFAULT_PARTITIONS)
        await bus.store_and_wait(subjects.accepted(partition, "broken"), b"{")
        await bus.store_and_wait(subjects.end(partition, "broken"), b"{")
        assert await told(client, 5) == [("broken", "", "failed"), (done, "nap", "succeeded")]


@pytest.mark.parametrize("few", [0, 100], ids=["many live", "few live"])
async def test_page_after_page(server: EmbeddedServer, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_FEW", few)
    async with dspex.connect(server.url) as client, router(server):
        rows: list[tuple[str, str]] = []
        for _ in range(4):
            rows += [((await client.run(NAP, {})).session, "succeeded"), ((await client.submit(WAIT)).id, "running")]
        rows.reverse()

        async def pages(limit: int, *, ended: bool) -> list[tuple[str, str]]:
            found, before = list[tuple[str, str]](), 0
            with anyio.fail_after(10):
                while True:
                    page = await client.sessions(limit=limit, ended=ended, before=before)
                    assert len(page.sessions) == limit or not page.next
                    found += [(summary.session, summary.status) for summary in page.sessions]
                    before = page.next
                    if not before:
                        return found

        for limit in (1, 3, 4, 50):
            assert await pages(limit, ended=True) == rows
            assert await pages(limit, ended=False) == rows[::2]


async def test_one_answer_does_not_look_at_everything(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_FEW", 0), ("_LOOKED_AT", 4), ("_READ_AT_ONCE", 2), ("_MOST_READ", 3)):
        monkeypatch.setattr(listing, name, value)
    async with dspex.connect(server.url) as client, router(server):
        oldest = await client.submit(WAIT)
        for _ in range(10):
            await client.run(NAP, {})
        request = SessionListRequest(ended=False, limit=5)
        page = await client.ask("session", "list", request, SessionList)
        assert (page.sessions, page.next > 1) == ((), True)
        found = await client.sessions(ended=False, limit=5)  # which goes on by itself
        assert ([summary.session for summary in found.sessions], found.next) == ([oldest.id], 0)
