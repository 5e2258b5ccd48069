"""A replica that is behind says that there is nothing, or nothing more; then the leader is asked."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from dspex_bus import Message
from dspex_bus.errors import NotFound, StoreFailed, Unavailable
from dspex_bus.nats.headers import LazyHeaders
from dspex_bus.nats.history import History

pytestmark = pytest.mark.anyio

TIME = "2026-11-27T19:00:00.5Z"
NONE = {"error": {"code": 404, "err_code": 10037, "description": "no message found"}}
NO_STREAM = {"error": {"code": 404, "err_code": 10059, "description": "stream not found"}}


class Server:
    """Messages ``a.1``, ``a.2``, … as the leader knows them, of which a replica knows the first ``known``."""

    def __init__(self, count: int, known: int, *, replicas: int = 3) -> None:
        self.count, self.known, self.replicas = count, known, replicas
        self.asked: list[str] = []
        self.wrong: Any = None

    async def request(self, subject: str, data: bytes, *_: object) -> Message:
        self.asked.append(subject.split("$JS.API.")[1].split(".S")[0])
        if subject.startswith("$JS.API.DIRECT.GET.S."):
            number = int(subject.rsplit(".", 1)[1])
            return self._direct(number) if number <= self.known else _status("404")
        asked = msgspec.json.decode(data) if data else {}
        if subject == "$JS.API.DIRECT.GET.S":
            return self._direct(asked["seq"]) if asked["seq"] <= self.known else _status("404")
        if subject == "$JS.API.STREAM.INFO.S":
            return _json({"config": {"num_replicas": self.replicas}})
        assert subject == "$JS.API.STREAM.MSG.GET.S"
        number = asked.get("seq") or int(asked["last_by_subj"].rsplit(".", 1)[1])
        return _json(self.wrong or (self._led(number) if number <= self.count else NONE))

    async def collect(
        self, subject: str, data: bytes, headers: None, timeout_s: float, last: Callable[[Message], bool]
    ) -> Message:
        self.asked.append("BATCH")
        for number in range(msgspec.json.decode(data).get("seq", 1), self.known + 1):
            assert not last(self._direct(number))
        end = _status("204", "Nats-Num-Pending: 0")
        assert last(end)
        return end

    def _direct(self, number: int) -> Message:
        told = f"Nats-Subject: a.{number}\r\nNats-Sequence: {number}\r\nNats-Time-Stamp: {TIME}\r\n"
        return Message("", b"%d" % number, "", LazyHeaders(f"NATS/1.0\r\n{told}\r\n".encode()))

    def _led(self, number: int) -> dict[str, Any]:
        headers = base64.b64encode(b"NATS/1.0\r\nName: value\r\n\r\n").decode() if number % 2 else None
        data = base64.b64encode(b"%d" % number).decode()
        return {"message": {"subject": f"a.{number}", "seq": number, "data": data, "hdrs": headers, "time": TIME}}


def _json(answer: Any) -> Message:
    return Message("", msgspec.json.encode(answer))


def _status(code: str, header: str = "") -> Message:
    return Message("", b"", "", LazyHeaders(f"NATS/1.0 {code}\r\n{header}\r\n\r\n".encode()))


async def test_the_leader_is_believed() -> None:
    server = Server(5, 3)
    history = History(server)  # type: ignore[arg-type]
    found = [await history.last("S", f"a.{number}") for number in range(1, 7)]
    assert [message and (message.sequence, message.data, message.time_ms) for message in found] == [
        *((number, b"%d" % number, 1795806000500) for number in range(1, 6)),
        None,
    ]
    assert [message.headers and message.headers.get("Name") for message in found[3:5] if message] == [None, "value"]
    first = await history.first("S", "a.>", 4)
    assert first is not None
    assert first.subject == "a.5"
    assert await history.first("S", "a.>", 5) is None
    assert server.asked.count("STREAM.INFO") == 1


@pytest.mark.parametrize("known", [0, 2, 5])
async def test_what_is_read_ends_where_the_leader_says(known: int) -> None:
    for after in range(6):
        history = History(Server(5, known))  # type: ignore[arg-type]
        read = [message.sequence async for message in history.read("S", "a.>", after)]
        assert read == list(range(after + 1, 6))
    history = History(Server(5, known))  # type: ignore[arg-type]
    assert [message.subject async for message in history.slots("S", "a.>")] == [f"a.{n}" for n in range(1, 6)]


async def test_the_newest_is_the_leader_s() -> None:
    server = Server(5, 5)
    found = await History(server).last("S", "a.5", newest=True)  # type: ignore[arg-type]
    assert found is not None
    assert found.sequence == 5
    assert server.asked == ["STREAM.INFO", "STREAM.MSG.GET"]


async def test_where_there_is_one_replica_nobody_else_is_asked() -> None:
    server = Server(5, 3, replicas=1)
    history = History(server)  # type: ignore[arg-type]
    assert await history.last("S", "a.4") is None
    assert await history.last("S", "a.4", newest=True) is None
    assert [message.sequence async for message in history.read("S", "a.>", 0)] == [1, 2, 3]
    assert server.asked == ["DIRECT.GET", "STREAM.INFO", "DIRECT.GET", "BATCH"]


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"error": {"code": 503, "err_code": 10008, "description": "temporarily unavailable"}}, StoreFailed),
        (NO_STREAM, NotFound),
    ],
)
async def test_a_leader_that_does_not_say_is_no_answer(wrong: Any, kind: type[Exception]) -> None:
    server = Server(5, 3)
    server.wrong = wrong
    with pytest.raises(kind):
        await History(server).last("S", "a.4")  # type: ignore[arg-type]
    with pytest.raises(kind):
        _ = [message async for message in History(server).read("S", "a.>", 0)]  # type: ignore[arg-type]


async def test_a_stream_that_we_made_is_not_back_yet() -> None:
    server = Server(5, 3)
    server.wrong = NO_STREAM
    with pytest.raises(Unavailable, match="not back yet"):
        await History(server, {"S"}).last("S", "a.4")  # type: ignore[arg-type]
