"""Reading what a stream holds: direct gets, which leave no consumer behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Container
from typing import Any

import msgspec

from ..bus import Message, StoredMessage
from ..errors import DspexError, NotFound, StoreFailed, Unavailable
from .jetstream import API, JetStream, direct_message
from .leader import Leaders
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
        self._leaders = Leaders(self._jetstream)

    async def last(self, stream: str, subject: str, *, newest: bool = False) -> StoredMessage | None:
        """None where there is none. What there is may have been followed by another a moment ago, unless it must be the
        ``newest``."""
        return await self._one(stream, {"last_by_subj": subject}, f".{subject}", newest=newest)

    async def first(self, stream: str, subject: str, after: int) -> StoredMessage | None:
        """The oldest message on a subject or pattern with a sequence above ``after``."""
        return await self._one(stream, _behind(after, subject))

    async def _one(
        self, stream: str, ask: dict[str, Any], path: str = "", *, newest: bool = False
    ) -> StoredMessage | None:
        """``path`` says to a direct get what ``ask`` says, and is cheaper."""
        if newest and (found := await self._of_leader(stream, ask)) is not None:
            return found
        body = b"" if path else msgspec.json.encode(ask)
        try:
            message = await self._replies.request(f"{API}.DIRECT.GET.{stream}{path}", body, None, _TIMEOUT_S)
        except Unavailable as error:
            raise await self._unread(stream, error) from error
        status = status_of(message)
        if status == "404":
            return await self._of_leader(stream, ask)
        if status:
            raise StoreFailed(f"{stream} could not be read by {ask}: status {status}")
        return direct_message(message)

    async def read(self, stream: str, subject: str, after: int) -> AsyncIterator[StoredMessage]:
        more = True
        while more:
            batch, more = await self._asked(stream, _behind(after, subject))
            more = more or await self._goes_on(stream, subject, after, batch)
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
            more = more or await self._goes_on(stream, pattern, after, batch)
            for message in batch:
                after = message.sequence
                yield message

    async def _goes_on(self, stream: str, subject: str, after: int, batch: list[StoredMessage]) -> bool:
        """Whether the leader has more than the last batch there was, which then ends with its next."""
        following = await self._of_leader(stream, _behind(batch[-1].sequence if batch else after, subject))
        if following is not None:
            batch.append(following)
        return following is not None

    async def _of_leader(self, stream: str, ask: dict[str, Any]) -> StoredMessage | None:
        try:
            return await self._leaders.asked(stream, ask)
        except NotFound as error:
            raise self._absent(stream) from error

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
            return self._absent(stream)
        except DspexError as cause:
            return Unavailable(f"the stream {stream} cannot be read just now: {cause}")
        return Unavailable(f"the stream {stream} cannot be read just now")

    def _absent(self, stream: str) -> NotFound | Unavailable:
        if stream in self._made:
            return Unavailable(f"the stream {stream} is not back yet")
        return NotFound(f"there is no stream {stream}")


def _behind(after: int, subject: str) -> dict[str, Any]:
    return {"seq": after + 1, "next_by_subj": subject}
