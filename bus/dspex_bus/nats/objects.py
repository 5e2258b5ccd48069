"""An object store in the standard layout: any NATS client can read what is in it."""

from __future__ import annotations

import base64
import hashlib
import logging
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from .._headers import ROLLUP
from ..bus import ObjectStore, Stored
from ..errors import DspexError, NotFound, StoreFailed
from .history import History
from .jetstream import JetStream
from .streams import make

logger = logging.getLogger("dspex.bus")

CHUNK = 128 * 1024
Store = Callable[[str, bytes, dict[str, str]], Awaitable[Stored]]


class NatsObjects(ObjectStore):
    """The bucket is made by the first ``put``."""

    def __init__(self, jetstream: JetStream, history: History, store: Store, bucket: str) -> None:
        self._jetstream = jetstream
        self._history = history
        self._store = store
        self._bucket = bucket
        self._stream = f"OBJ_{bucket}"

    async def put(self, name: str, data: bytes) -> str:
        await self._ensure()
        before = await self._about(name)
        id = uuid.uuid4().hex
        digest = hashlib.sha256(data)
        try:
            about = {
                "name": name,
                "bucket": self._bucket,
                "nuid": id,
                "size": len(data),
                "mtime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                "chunks": await self._put_chunks(id, data),
                "digest": _named(digest.digest()),
                "options": {"max_chunk_size": CHUNK},
            }
            await self._store(self._meta(name), msgspec.json.encode(about), {ROLLUP: "sub"})
        except BaseException:
            await self._forget(id)
            raise
        if before is not None:
            await self._forget(before["nuid"])
        return f"sha256:{digest.hexdigest()}"

    async def get(self, name: str) -> bytes | None:
        about = await self._about(name)
        while about is not None:
            data = b"".join(
                [message.data async for message in self._history.read(self._stream, self._chunks(about["nuid"]), 0)]
            )
            if _named(hashlib.sha256(data).digest()) == about["digest"]:
                return data
            read, about = about, await self._about(name)
            if about is not None and about["nuid"] == read["nuid"]:
                raise StoreFailed(f"the object {name} is damaged: its digest is not {about['digest']}", retryable=False)
        return None

    async def delete(self, name: str) -> None:
        about = await self._about(name)
        if about is not None:
            await self._purge(self._meta(name))
            await self._purge(self._chunks(about["nuid"]))

    def _meta(self, name: str) -> str:
        return f"$O.{self._bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"

    def _chunks(self, id: str) -> str:
        return f"$O.{self._bucket}.C.{id}"

    async def _put_chunks(self, id: str, data: bytes) -> int:
        starts = range(0, len(data), CHUNK)
        for start in starts:
            await self._store(self._chunks(id), data[start : start + CHUNK], {})
        return len(starts)

    async def _about(self, name: str) -> dict[str, Any] | None:
        try:
            message = await self._history.last(self._stream, self._meta(name))
        except NotFound:
            return None
        if message is None:
            return None
        about: dict[str, Any] = msgspec.json.decode(message.data)
        return None if about.get("deleted") else about

    async def _forget(self, id: str) -> None:
        """Remove the chunks nobody names any more. Left where that fails, they harm nobody."""
        try:
            await self._purge(self._chunks(id))
        except DspexError as error:
            logger.warning("chunks of an object are left in %s: %s", self._bucket, error)

    async def _purge(self, subject: str) -> None:
        await self._jetstream.ask(f"STREAM.PURGE.{self._stream}", {"filter": subject})

    async def _ensure(self) -> None:
        config = {
            "name": self._stream,
            "subjects": [f"$O.{self._bucket}.C.>", f"$O.{self._bucket}.M.>"],
            "storage": "file",
            "retention": "limits",
            "discard": "new",
            "allow_rollup_hdrs": True,
            "allow_direct": True,
            "num_replicas": 1,
        }
        await make(self._jetstream, config)


def _named(digest: bytes) -> str:
    return f"SHA-256={base64.urlsafe_b64encode(digest).decode()}"
