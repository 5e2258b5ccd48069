"""Sessions that a newer release has started: an older router says so, and does nothing about them."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

import dspex
from dspex_bus import EmbeddedServer, Message, NatsBus, subjects
from dspex_bus.claim import LARGE_BYTES, Claims
from dspex_bus.errors import DspexError, NewerJournal
from dspex_bus.streams import DEAD_LETTERS, EVENTS, LIVE
from dspex_bus.wire import (
    JOURNAL_FORMAT,
    Plan,
    ResultRequest,
    RouterPresence,
    RunResult,
    SequenceNode,
    SessionAccepted,
    SignalReceived,
    WaitNode,
    decode,
    encode,
    refuse_newer,
    refuse_newer_unread,
)
from dspex_router.shell import RouterConfig
from dspex_router.shell.release import RELEASE, stamped
from dspex_router.shell.young import live_key

from .inside import router

pytestmark = pytest.mark.anyio

WAIT = WaitNode(id="0", name="wait", signal="go")
PLAN = Plan(pipeline="p", digest="d", root=SequenceNode(id="root", name="p", children=(WAIT,)))
NEWER = SessionAccepted(session="newer", plan=PLAN, input={}, deadline_ms=1, format=99, release="9.0")
"""Its deadline has passed: a router that did anything about it would end it."""
UNREADABLE = encode(NEWER).replace(b'"wait"', b'"await"', 1)
"""With a kind of step that nobody knows yet."""
FAST = RouterConfig(sweep_s=0.05)


def test_only_newer_formats_are_refused() -> None:
    refuse_newer(stamped(NEWER))
    refuse_newer_unread(b"no json")
    refuse_newer_unread(b'{"format": "x"}')
    refuse_newer_unread(b"{}")
    assert (stamped(NEWER).format, stamped(NEWER).release) == (JOURNAL_FORMAT, RELEASE)
    with pytest.raises(NewerJournal, match=r"newer was started by release 9\.0.*format 99.*takes release 9\.0"):
        refuse_newer(NEWER)
    with pytest.raises(NewerJournal, match=r"takes a newer release") as refusal:
        refuse_newer_unread(b'{"session":"s","format":99,"plan":{"root":{"kind":"unheard of"}}}')
    assert refusal.value.details == {"session": "s", "format": 99, "release": ""}
    assert refusal.value.retryable


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer() as started:
        yield started


class Newer:
    """What a newer router has stored, and goes on storing."""

    def __init__(self, bus: NatsBus, session: str = "newer") -> None:
        self.bus = bus
        self.session = session
        self.partition = subjects.partition_of(session, 16)

    async def accept(self, data: bytes) -> None:
        await self.bus.key_value(LIVE).put(live_key(self.partition, self.session), b"1")
        await Claims(self.bus).store_once(subjects.accepted(self.partition, self.session), data)

    async def happens(self) -> None:
        """Events of known kinds and unknown ones."""
        known = encode(SignalReceived(name="go", id="1"))
        journal = subjects.session_journal(self.partition, self.session).removesuffix(">")
        for where, data in (
            ("signal.go.1", known),
            ("step.router.0.1", b'{"type":"step.postponed"}'),
            ("snapshot", b'{"type":"session.summed_up"}'),
            ("a.word.of.five.tokens.too", b"{}"),
        ):
            await self.bus.store_and_wait(journal + where, data, once=True)

    async def left_alone(self) -> bool:
        there = await self.bus.key_value(LIVE).get(live_key(self.partition, self.session))
        dead = await self.bus.stream_info(DEAD_LETTERS)
        end = await self.bus.last(EVENTS, subjects.end(self.partition, self.session))
        return there is not None and not dead["messages"] and end is None


@asynccontextmanager
async def system(server: EmbeddedServer) -> AsyncIterator[tuple[Newer, dspex.Client]]:
    async with (
        router(server, FAST),
        dspex.connect(server.url) as client,
        NatsBus(server.url, name="newer") as bus,
    ):
        yield Newer(bus), client


async def refused(ask: Callable[[], Awaitable[object]]) -> str:
    with pytest.raises(DspexError) as refusal:
        await ask()
    assert refusal.value.code == "newer_journal", refusal.value
    assert "release 9.0" in refusal.value.message
    return refusal.value.message


async def other_runs(client: dspex.Client) -> None:
    """Whatever was stored before it has been seen when a session of ours has ended."""
    session = await client.submit(dspex.pipeline([dspex.wait("go")]))
    await session.signal("go")
    assert (await session.result(timeout_s=10)).status == "succeeded"


@pytest.mark.parametrize(
    "data",
    [encode(NEWER), UNREADABLE, encode(NEWER).replace(b"9.0", b"9.0" + b" " * LARGE_BYTES)],
    ids=["readable", "unreadable", "large"],
)
async def test_it_is_left_alone_as_it_comes(
    server: EmbeddedServer, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with system(server) as (newer, client):
        await newer.accept(data)
        await newer.happens()
        for _ in range(3):
            await other_runs(client)
        assert await newer.left_alone()
    said = [record for record in caplog.records if "nothing is done here" in record.message]
    assert len(said) == 1
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


async def test_it_is_left_alone_when_partitions_are_taken_over_and_swept(
    server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with system(server):
        pass
    async with NatsBus(server.url, name="newer") as bus:
        newer = Newer(bus)
        await newer.accept(UNREADABLE)
        await newer.happens()
    caplog.clear()
    async with system(server) as (newer, client):
        for _ in range(3):
            await anyio.sleep(FAST.sweep_s)
            await other_runs(client)
        assert await newer.left_alone()
    said = [record for record in caplog.records if "nothing is done here" in record.message]
    assert len(said) == 1


async def test_every_request_about_it_is_answered_with_what_it_takes(server: EmbeddedServer) -> None:
    async with system(server) as (newer, client):
        await newer.accept(UNREADABLE)
        session = client.session("newer")
        for ask in (session.view, session.pause, session.resume, lambda: session.signal("go"), session.retry):
            assert "stored" not in await refused(ask)
        await refused(lambda: session.fork("0"))
        await refused(lambda: session.page(0))
        await refused(lambda: client.submit(dspex.pipeline([dspex.wait("go")]), session="newer"))
        listed = (await client.sessions()).sessions
        assert [(found.session, found.pipeline, found.status) for found in listed] == [("newer", "", "running")]


async def test_a_request_to_cancel_it_is_kept_for_whoever_can(server: EmbeddedServer) -> None:
    async with system(server) as (newer, client):
        await newer.accept(UNREADABLE)
        session = client.session("newer")
        assert "is stored" in await refused(session.cancel)
        assert await newer.bus.last(EVENTS, subjects.cancel_request(newer.partition, "newer")) is not None
        await newer.bus.store_and_wait(
            subjects.end(newer.partition, "newer"), b'{"type":"session.ended","status":"cancelled"}', once=True
        )
        assert "is stored" not in await refused(session.cancel)
        assert (await session.result(timeout_s=5)).status == "cancelled"
        assert [found.status for found in (await client.sessions()).sessions] == ["cancelled"]


async def test_an_end_that_is_not_understood_is_none_to_tell_of(server: EmbeddedServer) -> None:
    async with system(server) as (newer, client):
        await newer.accept(UNREADABLE)
        end = subjects.end(newer.partition, "newer")
        await newer.bus.store_and_wait(end, b'{"type":"session.ended","status":"merged"}', once=True)
        with anyio.fail_after(10):
            await refused(lambda: client.ask("session", "result", ResultRequest(session="newer"), RunResult))


async def test_replay_says_what_it_takes(server: EmbeddedServer) -> None:
    async with system(server) as (newer, _):
        await newer.accept(UNREADABLE)
        command = [sys.executable, "-m", "dspex", "replay", "newer", "--server", server.url]
        done = await anyio.run_process(command, check=False)
        assert done.returncode != 0
        assert b"release 9.0" in done.stderr


async def test_partitions_are_those_of_the_newest_format(server: EmbeddedServer) -> None:
    """A session is no stranger's: once the newer router has gone, its partitions come back."""
    owned: list[int] = []
    changed = anyio.Event()

    async def heard(message: Message) -> None:
        nonlocal changed
        said = decode(RouterPresence, message.data, subject=message.subject)
        if said.router not in ("older", "other"):
            owned[:] = said.partitions
            changed.set()
            changed = anyio.Event()

    async def until(count: int) -> None:
        with anyio.fail_after(10):
            while len(owned) != count:
                await changed.wait()

    async with NatsBus(server.url, name="watcher") as bus:
        await bus.subscribe(subjects.ROUTERS, heard)
        async with router(server, FAST), dspex.connect(server.url) as client:
            await until(16)
            older = RouterPresence(router="older", format=JOURNAL_FORMAT - 1)
            await bus.publish(subjects.router("older"), encode(older))
            await other_runs(client)
            assert len(owned) == 16

            said = {"router": "other", "format": JOURNAL_FORMAT + 1}
            await bus.publish(subjects.router("other"), json.dumps(said).encode())
            await until(0)
            await bus.publish(subjects.router("other"), json.dumps({**said, "state": "leaving"}).encode())
            await until(16)
            await other_runs(client)
