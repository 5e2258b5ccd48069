"""Reading what a stream holds: direct gets, which leave no consumer behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Container
from typing import Any

import msgspec

from ..bus import Message, StoredMessage
from ..errors import DspexError, NotFound, StoreFailed, Unavailable
from .jetstream import API, JetStream, direct_message
from .replies import Replies, status_of

BATCH = 256
BATCH_BYTES = 4 * 1024 * 1024
"""A batch ends behind the message that goes over this."""
_TIMEOUT_S = 5.0


class _TooMany(Exception):
    """More subjects match than the server looks up at once."""


class History:
    """``made`` are the streams that are known to be there: one of them that is not is not there yet, or just now."""

    def __init__(self, replies: Replies, made: Container[str] = ()) -> None:
        self._replies = replies
        self._made = made
        self._jetstream = JetStream(replies)

    async def last(self, stream: str, subject: str) -> StoredMessage | None:
        return await self._one(stream, subject, f"{API}.DIRECT.GET.{stream}.{subject}", b"")

    async def first(self, stream: str, subject: str, after: int) -> StoredMessage | None:
        """The oldest message on a subject or pattern with a sequence above ``after``."""
        body = msgspec.json.encode({"seq": after + 1, "next_by_subj": subject})
        return await self._one(stream, subject, f"{API}.DIRECT.GET.{stream}", body)

    async def _one(self, stream: str, subject: str, ask: str, body: bytes) -> StoredMessage | None:
        try:
            message = await self._replies.request(ask, body, None, _TIMEOUT_S)
        except Unavailable as error:
            raise await self._unread(stream, error) from error
        status = status_of(message)
        if status == "404":
            return None
        if status:
            raise StoreFailed(f"{subject} could not be read from {stream}: status {status}")
        return direct_message(message)

    async def read(self, stream: str, subject: str, after: int) -> AsyncIterator[StoredMessage]:
        more = True
        while more:
            batch, more = await self._batch(stream, subject, after)
            for message in batch:
                after = message.sequence
                yield message

    async def slots(self, stream: str, pattern: str) -> AsyncIterator[StoredMessage]:
        """The server looks up a thousand subjects or so at once: where there are more, they are searched for."""
        after, more = 0, True
        while more:
            ask = {"multi_last": [pattern], "seq": after + 1} if after else {"multi_last": [pattern]}
            try:
                batch, more = await self._asked(stream, ask)
            except _TooMany:
                async for message in self.read(stream, pattern, after):
                    yield message
                return
            for message in batch:
                after = message.sequence
                yield message

    async def _batch(self, stream: str, subject: str, after: int) -> tuple[list[StoredMessage], bool]:
        return await self._asked(stream, {"seq": after + 1, "next_by_subj": subject})

    async def _asked(self, stream: str, ask: dict[str, Any]) -> tuple[list[StoredMessage], bool]:
        """The next messages, and whether there are more behind them."""
        found: list[StoredMessage] = []

        def last(message: Message) -> bool:
            if status_of(message):
                return True
            found.append(direct_message(message))
            return False

        body = msgspec.json.encode({**ask, "batch": BATCH, "max_bytes": BATCH_BYTES})
        try:
            end = await self._replies.collect(f"{API}.DIRECT.GET.{stream}", body, None, _TIMEOUT_S, last)
        except Unavailable as error:
            raise await self._unread(stream, error) from error
        status = status_of(end)
        if status == "413":
            raise _TooMany
        if status not in ("204", "404"):
            raise StoreFailed(f"{stream} could not be read: status {status}")
        return found, bool(found) and int((end.headers or {}).get("Nats-Num-Pending", 0)) > 0

    async def _unread(self, stream: str, error: Unavailable) -> NotFound | Unavailable:
        """Nobody reads a stream for us that is absent, nor one whose server is just being stopped or started."""
        if error.code != "no_responders":
            return error
        try:
            await self._jetstream.ask(f"STREAM.INFO.{stream}")
        except NotFound:
            if stream in self._made:
                return Unavailable(f"the stream {stream} is not back yet")
            return NotFound(f"there is no stream {stream}")
        except DspexError as cause:
            return Unavailable(f"the stream {stream} cannot be read just now: {cause}")
        return Unavailable(f"the stream {stream} cannot be read just now")
