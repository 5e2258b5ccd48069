"""Reading what a stream holds: direct gets, which leave no consumer behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from ..bus import Message, StoredMessage
from ..errors import DeadlineExceeded, NotFound, StoreFailed
from .connection import Connection
from .jetstream import API, direct_message
from .replies import Replies, status_of

BATCH = 256
_TIMEOUT_S = 5.0


class History:
    def __init__(self, connection: Connection, replies: Replies) -> None:
        self._connection = connection
        self._replies = replies

    async def last(self, stream: str, subject: str) -> StoredMessage | None:
        message = await self._replies.request(f"{API}.DIRECT.GET.{stream}.{subject}", b"", None, _TIMEOUT_S)
        status = status_of(message)
        if status == "404":
            return None
        if status:
            raise StoreFailed(f"{subject} could not be read from {stream}: status {status}")
        return direct_message(message)

    async def read(self, stream: str, subject: str, after: int) -> AsyncIterator[StoredMessage]:
        while True:
            batch = await self._batch(stream, subject, after)
            for message in batch:
                yield message
            if len(batch) < BATCH:
                return
            after = batch[-1].sequence

    async def _batch(self, stream: str, subject: str, after: int) -> list[StoredMessage]:
        found: list[StoredMessage] = []
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def answered(message: Message) -> None:
            if ended.done():
                return
            status = status_of(message)
            if status:
                ended.set_result(status)
            else:
                found.append(direct_message(message))

        reply = self._replies.expect(answered)
        body = msgspec.json.encode({"seq": after + 1, "batch": BATCH, "next_by_subj": subject})
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._connection.publish(f"{API}.DIRECT.GET.{stream}", body, reply, None)
                status = await ended
        except TimeoutError as error:
            raise DeadlineExceeded(f"{stream} was not read within {_TIMEOUT_S:g} s") from error
        finally:
            self._replies.forget(reply)
        if status == "503":
            raise NotFound(f"there is no stream {stream}")
        if status not in ("204", "404"):
            raise StoreFailed(f"{stream} could not be read: status {status}")
        return found
