"""JetStream's own API: JSON requests to ``$JS.API``, and what their errors mean."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from ..bus import Message, StoredMessage
from ..errors import DspexError, NotFound, StoreFailed, Unavailable
from .replies import Replies

API = "$JS.API"
WRONG_LAST_SEQUENCE = 10071
WRITE_UNDER_WAY = 10164
"""Another write to the same subject has been proposed to the replicas and not been decided yet."""
STREAM_NOT_FOUND = 10059
_ABSENT = (STREAM_NOT_FOUND, 10014)  # stream, consumer
_NO_JETSTREAM = (10076, 10039)  # on this server, for this account
_NANOSECONDS = 1_000_000_000


class ApiError(msgspec.Struct, frozen=True):
    code: int = 0
    err_code: int = 0
    description: str = ""


class PubAck(msgspec.Struct, frozen=True):
    """The server's answer to a message for a stream."""

    seq: int = 0
    error: ApiError | None = None


pub_ack = msgspec.json.Decoder(PubAck).decode


def nanoseconds(seconds: float) -> int:
    return int(seconds * _NANOSECONDS)


def milliseconds(timestamp: str) -> int:
    """RFC 3339 with up to nine digits of a second, as milliseconds since the epoch."""
    seconds, _, fraction = timestamp.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(f"{seconds}+00:00").timestamp()) * 1000 + int((fraction + "000")[:3])


def direct_message(message: Message) -> StoredMessage:
    """The stored message in the answer to a direct get."""
    headers = message.headers or {}
    return StoredMessage(
        headers["Nats-Subject"],
        message.data,
        headers,
        int(headers["Nats-Sequence"]),
        milliseconds(headers["Nats-Time-Stamp"]),
    )


class JetStream:
    def __init__(self, replies: Replies) -> None:
        self._replies = replies

    async def ask(self, verb: str, body: Any = None, *, timeout_s: float = 5.0) -> dict[str, Any]:
        """The answer of ``$JS.API.<verb>``. NotFound, StoreFailed or Unavailable where it is an error."""
        data = b"" if body is None else msgspec.json.encode(body)
        try:
            message = await self._replies.request(f"{API}.{verb}", data, None, timeout_s)
        except Unavailable as error:
            if error.code == "no_responders":
                raise Unavailable(
                    "the server has no JetStream; start it with --jetstream", code="no_jetstream"
                ) from error
            raise
        answer: dict[str, Any] = msgspec.json.decode(message.data)
        if "error" in answer:
            raise translated(msgspec.convert(answer["error"], ApiError), verb)
        return answer


def translated(error: ApiError, what: str) -> DspexError:
    details = {"err_code": error.err_code}
    if error.err_code in _ABSENT or error.code == 404:
        made = "; a router makes it when it first starts" if error.err_code == STREAM_NOT_FOUND else ""
        return NotFound(f"{what}: {error.description}{made}", details=details)
    if error.err_code in _NO_JETSTREAM:
        return Unavailable(f"{what}: {error.description}", code="no_jetstream", details=details)
    # 400: what was asked cannot be done, now or later.
    return StoreFailed(f"{what}: {error.description}", retryable=error.code != 400, details=details)
