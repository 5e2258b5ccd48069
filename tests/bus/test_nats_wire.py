"""The protocol's bytes, both ways: messages come out whole wherever the stream is cut, and headers stay headers."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from nats.errors import ProtocolError

from dspex_bus import Delivery, EmbeddedServer, Message, NatsBus
from dspex_bus.nats.headers import LazyHeaders, header_block, with_header
from dspex_bus.nats.parsing import Parser
from dspex_bus.streams import TASKS, buckets, streams

pytestmark = pytest.mark.anyio

HEAD = b"NATS/1.0\r\nName: value\r\n\r\n"
STREAM = (
    b"INFO {}\r\n"
    b"MSG a.b 1 5\r\nhello\r\n"
    b"PING\r\n"
    b"MSG a.c 1 reply.to 0\r\n\r\n"
    b"HMSG a.d 2 %d %d\r\n%bbody\r\n"
    b"-ERR 'Permissions Violation'\r\n"
    b"MSG gone 9 2\r\n\r\n\r\n"
    b"HMSG a.e 2 back %d %d\r\n%b\r\n"
    b"PONG\r\n" % (len(HEAD), len(HEAD) + 4, HEAD, len(HEAD), len(HEAD), HEAD)
)


class Client:
    """What the parser hands over that is no message."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def _process_ping(self) -> None:
        self.seen.append("ping")

    async def _process_pong(self) -> None:
        self.seen.append("pong")

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.seen.append(info)

    async def _process_err(self, error: str) -> None:
        self.seen.append(error)


def plain(message: Message) -> tuple[str, bytes, str, dict[str, str] | None]:
    return message.subject, message.data, message.reply, dict(message.headers) if message.headers else None


async def parsed(chunks: list[bytes]) -> tuple[list[Any], list[Any], list[Any]]:
    client = Client()
    ones: list[Message] = []
    twos: list[Message] = []
    parser = Parser(client, {b"1": ones.append, b"2": twos.append})
    for chunk in chunks:
        await parser.parse(chunk)
    return [plain(message) for message in ones], [plain(message) for message in twos], client.seen


WHOLE = (
    [("a.b", b"hello", "", None), ("a.c", b"", "reply.to", None)],
    [("a.d", b"body", "", {"Name": "value"}), ("a.e", b"", "back", {"Name": "value"})],
    [{}, "ping", "permissions violation", "pong"],
)


async def test_a_stream_in_one_piece() -> None:
    assert await parsed([STREAM]) == WHOLE


async def test_a_stream_cut_anywhere() -> None:
    for cut in range(1, len(STREAM)):
        assert await parsed([STREAM[:cut], STREAM[cut:]]) == WHOLE, cut


async def test_a_stream_byte_by_byte() -> None:
    assert await parsed([STREAM[at : at + 1] for at in range(len(STREAM))]) == WHOLE


@pytest.mark.parametrize("line", [b"WHAT is this\r\n", b"x" * 1_100_000])
async def test_what_is_not_the_protocol_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        await parsed([line])


@pytest.mark.parametrize("value", ["two\r\nInjected: 1", "two\nInjected: 1", "two\rInjected: 1"])
def test_a_line_break_in_a_header_begins_no_other(value: str) -> None:
    block = header_block({"One": value, "Two": "2"})
    assert dict(LazyHeaders(block)) == {"One": "two Injected: 1", "Two": "2"}


def test_headers_come_back_as_they_went() -> None:
    headers = {"Nats-Service-Error": "über: 10 % 'off'", "Empty": ""}
    assert dict(LazyHeaders(header_block(headers))) == headers
    assert header_block(None) == header_block({}) == b""


def test_the_status_of_the_server() -> None:
    headers = LazyHeaders(b"NATS/1.0 409 Consumer Deleted\r\nNats-Pending-Messages: 5\r\n\r\n")
    assert (headers.status, headers.description) == ("409", "Consumer Deleted")
    assert headers["Nats-Pending-Messages"] == "5"
    assert LazyHeaders(HEAD).status == ""


async def test_more_than_the_socket_takes_at_once_arrives_in_order() -> None:
    """Publishers wait for the socket, and nothing is lost or mixed up."""
    sizes = [0, 1, 70_000, 500_000, 3, 900_000] * 10
    got: list[int] = []
    done = anyio.Event()

    async def take(message: Message) -> None:
        assert message.data.strip(b"%d" % (len(got) % 10)) == b""
        got.append(len(message.data))
        if len(got) == len(sizes):
            done.set()

    async with EmbeddedServer() as server, NatsBus(server.url) as here, NatsBus(server.url) as there:
        await there.subscribe("sizes", take)
        for number, size in enumerate(sizes):
            await here.publish("sizes", b"%d" % (number % 10) * size)
        with anyio.fail_after(20):
            await done.wait()
    assert got == sizes


@pytest.mark.parametrize("inside", [False, True])
async def test_closing_a_subscription(inside: bool) -> None:
    """What has arrived is still handed over, unless the callback itself closes: then nothing more is."""
    got: list[bytes] = []
    closed = anyio.Event()
    async with EmbeddedServer() as server, NatsBus(server.url) as bus:

        async def take(message: Message) -> None:
            got.append(message.data)
            if inside:
                await subscription.close()
                closed.set()

        subscription = await bus.subscribe("some", take)
        for number in range(100):
            await bus.publish("some", b"%d" % number)
        if not inside:
            await subscription.close()
            closed.set()
        with anyio.fail_after(5):
            await closed.wait()
        await bus.publish("some", b"late")
        await bus.request("$SYS.REQ.USER.INFO", timeout_s=5)
        await anyio.wait_all_tasks_blocked()
    assert got == ([b"0"] if inside else [b"%d" % number for number in range(100)])


def test_one_more_header() -> None:
    assert dict(LazyHeaders(with_header(header_block({"One": "1"}), "Two", "2"))) == {"One": "1", "Two": "2"}


async def test_an_acknowledgement_that_is_not_urgent_arrives_by_itself() -> None:
    """Nothing else is published that it could go with."""
    acknowledged = anyio.Event()

    async def take(delivery: Delivery) -> None:
        await delivery.ack()
        acknowledged.set()

    async with EmbeddedServer() as server, NatsBus(server.url) as here, NatsBus(server.url) as there:
        await here.prepare(streams(), buckets())
        consumer = await here.consume(TASKS, "pool_normal", "dspex.v1.task.pool.normal.>", take)
        await consumer.want(1)
        await there.store_and_wait("dspex.v1.task.pool.normal.s.n.1", b"{}", once=True)
        with anyio.fail_after(5):
            await acknowledged.wait()
            while (await there.stream_info(TASKS))["messages"]:
                await anyio.sleep(0.001)


@pytest.mark.parametrize("looked", [False, True])
def test_one_header_is_the_same_whether_all_were_looked_at(looked: bool) -> None:
    dropped = "Nats-Expected-Last-Subject-Sequence"
    lines = ("NATS/1.0 503 No", "First: a: b ", "Twice: 1", "Twice:2", f"{dropped}: 0", "Empty:", "", "")
    headers = LazyHeaders("\r\n".join(lines).encode())
    assert len(headers) == 3 if looked else headers is not None
    found = [headers.get(name) for name in ("First", "Twice", "Empty", "first", "irst", "No")]
    assert found == ["a: b", "2", "", None, None, None]
    assert headers.get(dropped, "gone") == "gone"
