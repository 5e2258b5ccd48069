"""What ends a connection, what the server refuses, and what then becomes of everything that stood on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest

import dspex_bus.nats.connection as connection
import dspex_bus.nats.subscription as subscription
from dspex_bus import (
    Delivery,
    EmbeddedServer,
    Endpoint,
    Message,
    NatsBus,
    Request,
    ServiceSpec,
    Stored,
    StoredMessage,
    connect,
)
from dspex_bus.errors import (
    Disconnected,
    InvalidName,
    NotPermitted,
    PayloadTooLarge,
    SetupError,
    StoreFailed,
    Unavailable,
)
from dspex_bus.streams import StreamSpec

from .links import ConfiguredServer, Link

pytestmark = pytest.mark.anyio

LOG = StreamSpec(name="LOG", subjects=("log.>",))
WORK = StreamSpec(name="WORK", subjects=("work.>",), work_queue=True)


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer() as started:
        yield started


@pytest.fixture
async def link(server: EmbeddedServer) -> AsyncIterator[Link]:
    async with Link(server.port) as opened:
        yield opened


@pytest.fixture
async def bus(link: Link) -> AsyncIterator[NatsBus]:
    async with NatsBus(link.url, name="test") as opened:
        yield opened


@asynccontextmanager
async def returning(bus: NatsBus, seconds: float = 10) -> AsyncIterator[None]:
    """What is in it ends the connection; afterwards it is back, and everything is mended."""
    back = asyncio.Event()

    async def on_reconnect() -> None:
        back.set()

    bus.on_reconnect(on_reconnect)
    yield
    with anyio.fail_after(seconds):
        await back.wait()
    assert bus.connected


async def answers(bus: NatsBus) -> bool:
    return bool((await bus.request("$SYS.REQ.USER.INFO", timeout_s=5)).data)


# --- what ends a connection ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        b"-ERR 'User Authentication Expired'\r\n",
        b"-ERR 'Stale Connection'\r\n",
        b"WHAT is this\r\n",
        b"INFO {not json\r\n",
        b"MSG log.a 1 many\r\n",
    ],
)
async def test_whatever_the_server_says_the_bus_comes_back(bus: NatsBus, link: Link, said: bytes) -> None:
    async with returning(bus):
        link.say(said)
    assert link.made == 2
    assert await answers(bus)


async def test_a_cut_line(bus: NatsBus, link: Link) -> None:
    for made in (2, 3):
        async with returning(bus):
            link.cut()
        assert link.made == made
        assert await answers(bus)


async def test_a_line_on_which_nothing_comes_any_more(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody says that it is over: only unanswered pings tell."""
    monkeypatch.setattr(connection, "PING_S", 0.1)
    async with NatsBus(link.url) as bus:
        request = asyncio.create_task(bus.request("$SYS.REQ.USER.INFO", timeout_s=30))
        await request
        async with returning(bus):
            link.freeze()
            waiting = asyncio.create_task(bus.request("$SYS.REQ.USER.INFO", timeout_s=30))
            with pytest.raises(Disconnected):
                await waiting
            link.cut()
        assert await answers(bus)


async def test_an_answer_to_a_ping_that_comes_too_late(bus: NatsBus, link: Link) -> None:
    link.freeze()
    await bus._connection.flush(0.1)
    link.thaw()
    assert await answers(bus)
    assert link.made == 1


async def test_a_handler_that_raises_does_not_end_the_connection(
    bus: NatsBus, link: Link, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[bytes] = []
    both = asyncio.Event()

    async def callback(message: Message) -> None:
        got.append(message.data)
        if message.data == b"bad":
            raise ValueError("what a message")
        both.set()

    await bus.subscribe("some", callback)
    await bus.publish("some", b"bad")
    await bus.publish("some", b"good")
    await asyncio.wait_for(both.wait(), 5)
    assert got == [b"bad", b"good"]
    assert "what a message" in caplog.text
    assert link.made == 1


async def test_names_that_are_not_utf_8_are_survived(bus: NatsBus, link: Link) -> None:
    came = asyncio.Event()

    async def callback(message: Message) -> None:
        came.set()

    await bus.subscribe("odd.>", callback)
    async with NatsBus(link.url) as other:
        client = other._connection._client
        assert client is not None
        client._pending.append(b"PUB odd.\xff 2\r\nhi\r\n")
        await client._flush_pending()
        await asyncio.wait_for(came.wait(), 5)
    assert bus.connected


# --- what was under way --------------------------------------------------------------------------


async def test_a_callback_is_not_interrupted(bus: NatsBus, link: Link) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()
    done: list[bytes] = []

    async def callback(message: Message) -> None:
        inside.set()
        await go_on.wait()
        done.append(message.data)

    await bus.subscribe("slow", callback)
    await bus.publish("slow", b"one")
    await bus.publish("slow", b"two")
    await asyncio.wait_for(inside.wait(), 5)
    await answers(bus)  # "two" has arrived too
    async with returning(bus):
        link.cut()
    go_on.set()
    with anyio.fail_after(5):
        while done != [b"one", b"two"]:
            await asyncio.sleep(0.01)


async def test_everything_asked_fails_at_once(bus: NatsBus, link: Link) -> None:
    await bus.prepare([LOG], [])
    link.freeze()

    async def history() -> None:
        async for _ in bus.history("LOG", "log.>"):
            pass

    asked = [
        asyncio.create_task(bus.request("anything", timeout_s=30)),
        asyncio.create_task(history()),
        asyncio.create_task(bus.stream_info("LOG")),
        asyncio.create_task(bus.store_and_wait("log.a", b"", timeout_s=30)),
    ]
    await asyncio.sleep(0)  # each has begun
    await asyncio.sleep(0)
    async with returning(bus):
        link.cut()
    with anyio.fail_after(2):
        results = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(result) for result in results] == [Disconnected] * 4


async def test_what_is_published_meanwhile_is_sent_later_up_to_a_limit(bus: NatsBus, server: EmbeddedServer) -> None:
    got: list[bytes] = []

    async def callback(message: Message) -> None:
        got.append(message.data[:1])

    await bus.subscribe("later", callback)
    await server.kill()
    with anyio.fail_after(5):
        while bus.connected:
            await asyncio.sleep(0.01)
    await bus.publish("later", b"1" * 1_000_000)
    await bus.publish("later", b"2" * 1_000_000)
    with pytest.raises(Disconnected, match="too much"):
        await bus.publish("later", b"3" * 1_000_000)
    async with returning(bus):
        await server.start()
    with anyio.fail_after(5):
        while len(got) < 2:
            await asyncio.sleep(0.01)
    assert got == [b"1", b"2"]


async def test_a_pull_that_a_lost_connection_left_behind_brings_nothing(bus: NatsBus, link: Link) -> None:
    """Standing requests are asked anew, under a new name: no task is delivered to nobody, or twice."""
    await bus.prepare([WORK], [])
    got: list[Delivery] = []
    came = asyncio.Event()

    async def callback(delivery: Delivery) -> None:
        got.append(delivery)
        await delivery.ack()
        if len(got) == 3:
            came.set()

    consumer = await bus.consume("WORK", "pool", "work.>", callback)
    await consumer.want(3)
    for _ in range(3):
        async with returning(bus):
            link.cut()
    for number in range(5):
        await bus.store_and_wait(f"work.{number}", b"")
    await asyncio.wait_for(came.wait(), 5)
    assert [delivery.deliveries for delivery in got] == [1, 1, 1]
    assert [delivery.subject for delivery in got] == ["work.0", "work.1", "work.2"]
    with anyio.fail_after(5):
        while (info := await bus.consumer_info("WORK", "pool"))["ack_pending"]:
            await asyncio.sleep(0.01)
    info.pop("oldest_wait_ms", None)
    assert info == {"pending": 2, "ack_pending": 0, "redelivered": 0, "waiting": 0}


async def test_a_reader_leaves_no_consumer_behind(bus: NatsBus, link: Link) -> None:
    await bus.prepare([LOG], [])
    got: list[int] = []

    async def callback(message: StoredMessage) -> None:
        got.append(message.sequence)

    reader = await bus.read("LOG", ["log.>"], callback)
    for number in range(1, 4):
        await bus.store_and_wait("log.a", b"")
        async with returning(bus):
            link.cut()
        with anyio.fail_after(5):
            while len(got) < number or (await bus.stream_info("LOG"))["consumers"] != 1:
                await asyncio.sleep(0.01)
    assert got == [1, 2, 3]
    await reader.close()
    assert (await bus.stream_info("LOG"))["consumers"] == 0


async def test_a_bus_that_is_left_says_what_it_had_to_say(server: EmbeddedServer) -> None:
    handed: list[bytes] = []
    tasks: list[Delivery] = []

    async def callback(message: Message) -> None:
        await asyncio.sleep(0.01)
        handed.append(message.data)

    async def on_task(delivery: Delivery) -> None:
        tasks.append(delivery)

    async with NatsBus(server.url) as other:
        await other.prepare([LOG, WORK], [])
        async with NatsBus(server.url) as bus:
            await bus.subscribe("many", callback)
            await bus.read("LOG", ["log.>"], _ignore)
            consumer = await bus.consume("WORK", "pool", "work.>", on_task)
            await consumer.want(1)
            for number in range(10):
                await bus.publish("many", b"%d" % number)
                await bus.store("log.a", b"%d" % number)
            await bus.publish("other.answer", b"bye")
        assert handed == [b"%d" % number for number in range(10)]
        info = await other.stream_info("LOG")
        assert (info["messages"], info["consumers"]) == (10, 0)
        await other.store_and_wait("work.a", b"")
        await answers(other)
        assert tasks == []
        assert (await other.consumer_info("WORK", "pool"))["ack_pending"] == 0


async def _ignore(message: StoredMessage) -> None:
    pass


async def test_the_connection_s_return_is_told_to_everybody(
    bus: NatsBus, link: Link, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise ValueError("what a callback")

    bus.on_reconnect(fail)
    async with returning(bus):
        link.cut()
    assert "what a callback" in caplog.text


async def test_streams_that_cannot_be_mended_do_not_keep_the_rest_from_going_on(
    bus: NatsBus, link: Link, server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    await bus.prepare([LOG], [])
    async with NatsBus(server.url) as other:
        await other._jetstream.ask("STREAM.DELETE.LOG")
        await other.prepare([StreamSpec(name="LOG", subjects=("log.>",), storage="memory")], [])
    async with returning(bus):
        link.cut()
    assert "streams are not back yet" in caplog.text
    assert (await bus.store_and_wait("log.a", b"")).created


async def test_streams_that_are_not_back_yet_are_waited_for(bus: NatsBus, link: Link) -> None:
    await bus.prepare([LOG], [])
    ask, failures = bus._jetstream.ask, 2

    async def failing(verb: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise StoreFailed("not yet")
        return await ask(verb, *arguments, **options)

    bus._jetstream.ask = failing  # type: ignore[method-assign]
    async with returning(bus):
        link.cut()
    assert failures < 0


async def test_an_endpoint_that_the_server_does_not_allow(guarded: EmbeddedServer) -> None:
    async def handle(request: Request) -> None:
        await request.respond(b"")

    endpoints = [
        Endpoint(name="open", subject="open.door", handle=handle),
        Endpoint(name="closed", subject="Closed.door", handle=handle),
    ]
    spec = ServiceSpec(name="doors", version="1.0.0", description="", endpoints=endpoints, queue="q")
    async with NatsBus(guarded.url, user="some", password="secret") as bus:
        with pytest.raises(NotPermitted):
            await bus.serve(spec)
        with pytest.raises(Unavailable) as raised:
            await bus.request("open.door")
    assert raised.value.code == "no_responders"


async def test_what_the_next_server_does_not_carry_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    async with ConfiguredServer("max_payload: 20000") as server, NatsBus(server.url) as bus:
        await bus.prepare([LOG], [])
        results: list[Stored | Exception] = []
        await server.kill()
        with anyio.fail_after(5):
            while bus.connected:
                await asyncio.sleep(0.01)
        await bus.publish("any", b"x" * 15_000)
        await bus.store("log.slot", b"x" * 15_000, once=True, then=results.append)
        server._more = "max_payload: 10000"
        async with returning(bus):
            await server.start()
        assert "does not carry 15000 bytes for any" in caplog.text
        assert [type(result) for result in results] == [PayloadTooLarge]
        assert await answers(bus)


async def test_a_connection_that_ends_while_it_is_being_written_to(bus: NatsBus, link: Link) -> None:
    """What is written in that moment is lost, refused or kept for the next connection, and nothing comes twice."""
    got: list[bytes] = []
    refused = 0

    async def callback(message: Message) -> None:
        got.append(message.data[:6])

    await bus.subscribe("busy", callback)
    async with returning(bus):
        for number in range(200):
            if number == 50:
                link.cut()
            try:
                await bus.publish("busy", b"%06d" % number + b"x" * 50_000)
            except Disconnected:
                refused += 1
    await bus.publish("busy", b"last")
    with anyio.fail_after(5):
        while got[-1:] != [b"last"]:
            await asyncio.sleep(0.01)
    assert got[:-1] == sorted(set(got[:-1]))
    assert refused + len(got) <= 201


async def test_a_server_that_comes_back_as_something_else(caplog: pytest.LogCaptureFixture) -> None:
    """It is waited out: another attempt, and another, until it is a server again."""
    async with EmbeddedServer() as server, NatsBus(server.url, connect_timeout_s=0.3) as bus:
        port = server.port
        await server.kill()
        greeted = asyncio.Event()

        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b'INFO {"version": "2.9.10", "max_payload": 1048576}\r\n')
            with suppress(OSError, asyncio.IncompleteReadError):
                await reader.readuntil(b"PING\r\n")
                writer.write(b"PONG\r\n")
                greeted.set()
                await reader.read()
            writer.close()

        async with await asyncio.start_server(greet, "127.0.0.1", port):
            await asyncio.wait_for(greeted.wait(), 10)

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            greeted.set()
            with suppress(OSError):
                await reader.read()
            writer.close()

        greeted.clear()
        async with await asyncio.start_server(silent, "127.0.0.1", port):
            await asyncio.wait_for(greeted.wait(), 10)
            greeted.clear()
            await asyncio.wait_for(greeted.wait(), 10)  # the one that said nothing was given up
        async with returning(bus):
            await server.start()
        assert "too old" in caplog.text
        assert await answers(bus)


# --- callbacks that are too slow -----------------------------------------------------------------


@pytest.mark.parametrize("more", [0, 1])
async def test_what_is_dropped_is_said_and_a_reader_reads_it_again(
    more: int, bus: NatsBus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(subscription, "HELD_BYTES", 20_000)
    await bus.prepare([LOG], [])
    got: list[int] = []
    go_on = asyncio.Event()

    async def callback(message: StoredMessage) -> None:
        await go_on.wait()
        got.append(message.sequence)

    await bus.read("LOG", ["log.>"], callback)
    for _ in range(50):
        await bus.store_and_wait("log.a", b"x" * 1000)
    assert "callbacks are too slow" in caplog.text
    go_on.set()
    for _ in range(more):  # the next message shows that some are missing; without one the next heartbeat does
        while not got:
            await asyncio.sleep(0)
        await bus.store_and_wait("log.a", b"")
    with anyio.fail_after(10):
        while len(got) < 50 + more:
            await asyncio.sleep(0.01)
    assert got == list(range(1, 51 + more))


async def test_a_reader_that_is_slower_than_what_comes(bus: NatsBus) -> None:
    """The server waits for it, and goes on when it is told to."""
    await bus.prepare([LOG], [])
    got: list[int] = []

    async def callback(message: StoredMessage) -> None:
        got.append(message.sequence)
        await asyncio.sleep(0)

    for _ in range(300):
        await bus.store("log.a", b"x" * 100_000)
    await bus.store_and_wait("log.a", b"")
    await bus.read("LOG", ["log.>"], callback, after=0)
    with anyio.fail_after(20):
        while len(got) < 301:
            await asyncio.sleep(0.01)
    assert got == list(range(1, 302))


# --- what cannot work ----------------------------------------------------------------------------


async def test_a_server_of_too_old_a_version() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"version": "2.9.10", "max_payload": 1048576}\r\n')
        await reader.readuntil(b"PING\r\n")
        writer.write(b"PONG\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as old:
        port = old.sockets[0].getsockname()[1]
        with pytest.raises(SetupError, match=r"2\.9\.10.*2\.12"):
            await NatsBus(f"nats://127.0.0.1:{port}").__aenter__()


async def test_something_else_that_listens_there() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(Disconnected, match="is the address right"):
            await NatsBus(f"nats://127.0.0.1:{port}", connect_timeout_s=0.5).__aenter__()


async def test_who_is_not_patient_is_told_at_once_that_nothing_listens() -> None:
    with anyio.fail_after(5), pytest.raises(Disconnected, match="nothing listens at nats"):
        await NatsBus("nats://127.0.0.1:1", connect_timeout_s=30, patient=False).__aenter__()


async def test_who_is_patient_waits_for_a_server_that_starts(server: EmbeddedServer) -> None:
    await server.kill()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        bus = NatsBus(server.url)
        opening = group.create_task(bus.__aenter__())
        while not bus._connection._vacant:
            await asyncio.sleep(0.01)
        await server.restart()
        await opening
        await bus.__aexit__(None, None, None)


async def test_one_of_several_servers_is_enough(server: EmbeddedServer) -> None:
    async with NatsBus(f"nats://127.0.0.1:1,{server.url}", patient=False) as bus:
        assert bus.connected


async def test_a_server_without_jetstream() -> None:
    more = "accounts { A: { users: [ { user: a, password: b } ] } }"
    async with ConfiguredServer(more) as plain, NatsBus(plain.url, user="a", password="b") as bus:
        with pytest.raises(Unavailable) as raised:
            await bus.prepare([LOG], [])
    assert raised.value.code == "no_jetstream"


USERS = """
authorization { users: [
  { user: all, password: secret }
  { user: some, password: secret, permissions: {
      publish: { deny: ["Closed.>", "log.closed"] }, subscribe: { deny: ["Closed.>"] } } }
  { user: deaf, password: secret, permissions: { subscribe: { deny: "_INBOX.>" } } }
] }
"""


@pytest.fixture(scope="module")
async def guarded() -> AsyncIterator[EmbeddedServer]:
    async with ConfiguredServer(USERS) as started:
        yield started


async def test_credentials(guarded: EmbeddedServer) -> None:
    with pytest.raises(SetupError, match="refuses these credentials"):
        await NatsBus(guarded.url, user="all", password="wrong").__aenter__()
    with pytest.raises(SetupError, match="refuses these credentials"):
        await NatsBus(guarded.url).__aenter__()
    async with NatsBus(guarded.url, user="all", password="secret") as bus:
        assert await answers(bus)


async def test_a_user_who_may_not_hear_answers(guarded: EmbeddedServer) -> None:
    with pytest.raises(NotPermitted, match="_inbox"):
        await NatsBus(guarded.url, user="deaf", password="secret").__aenter__()


async def test_what_is_not_permitted_is_said_at_once(guarded: EmbeddedServer, caplog: pytest.LogCaptureFixture) -> None:
    async with NatsBus(guarded.url, user="some", password="secret") as bus:
        await bus.prepare([LOG], [])

        async def callback(message: Message) -> None:
            pass

        with anyio.fail_after(3):
            with pytest.raises(NotPermitted, match="subscribe to closed"):
                await bus.subscribe("Closed.door", callback)
            with pytest.raises(NotPermitted, match="publish to closed"):
                await bus.request("Closed.door", timeout_s=30)
            for once in (True, False):
                with pytest.raises(NotPermitted):
                    await bus.store_and_wait("log.closed", b"", once=once, timeout_s=30)
            await bus.publish("Closed.window")
            assert (await bus.store_and_wait("log.open", b"", once=True)).created
            await bus.subscribe("open", callback)
        assert caplog.text.count("publish to closed.window") == 1


@pytest.mark.parametrize("subject", ["", "two words", "line\r\nbreak", "tab\there", "nul\0"])
async def test_what_would_be_another_command_is_refused(bus: NatsBus, subject: str) -> None:
    with pytest.raises(InvalidName):
        await bus.publish(subject, b"")
    with pytest.raises(InvalidName):
        await bus.request(subject, b"")
    with pytest.raises(InvalidName):
        await bus.store(subject, b"", once=True)
    assert bus.connected


async def test_the_limit_is_the_server_s() -> None:
    async with ConfiguredServer("max_payload: 2000") as small, connect(small.url) as bus:
        assert bus.max_payload == 2000
        await bus.publish("a", b"x" * 2000)
        with pytest.raises(PayloadTooLarge):
            await bus.publish("a", b"x" * 1990, headers={"Name": "value"})
        assert await answers(bus)


async def test_several_addresses(server: EmbeddedServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with NatsBus(f"nats://127.0.0.1:9, {server.url}") as bus:
        assert await answers(bus)
