"""An object store in the standard layout: any NATS client can read what is in it."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from .._headers import ROLLUP
from ..bus import ObjectStore, Stored
from ..errors import NotFound, StoreFailed
from .history import History
from .jetstream import JetStream

CHUNK = 128 * 1024
Store = Callable[[str, bytes, dict[str, str]], Awaitable[Stored]]


class NatsObjects(ObjectStore):
    def __init__(self, jetstream: JetStream, history: History, store: Store, bucket: str) -> None:
        self._jetstream = jetstream
        self._history = history
        self._store = store
        self._bucket = bucket
        self._stream = f"OBJ_{bucket}"

    async def put(self, name: str, data: bytes) -> str:
        before = await self._about(name)
        await self._ensure()
        chunks = f"$O.{self._bucket}.C.{uuid.uuid4().hex}"
        count = 0
        for start in range(0, len(data), CHUNK):
            await self._store(chunks, data[start : start + CHUNK], {})
            count += 1
        digest = hashlib.sha256(data)
        about = {
            "name": name,
            "bucket": self._bucket,
            "nuid": chunks.rsplit(".", 1)[1],
            "size": len(data),
            "mtime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "chunks": count,
            "digest": f"SHA-256={base64.urlsafe_b64encode(digest.digest()).decode()}",
            "options": {"max_chunk_size": CHUNK},
        }
        await self._store(self._meta(name), msgspec.json.encode(about), {ROLLUP: "sub"})
        if before is not None:
            await self._purge(f"$O.{self._bucket}.C.{before['nuid']}")
        return f"sha256:{digest.hexdigest()}"

    async def get(self, name: str) -> bytes | None:
        about = await self._about(name)
        if about is None:
            return None
        chunks = f"$O.{self._bucket}.C.{about['nuid']}"
        data = b"".join([message.data async for message in self._history.read(self._stream, chunks, 0)])
        found = f"SHA-256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()}"
        if found != about["digest"]:
            raise StoreFailed(f"the object {name} is damaged: its digest is {found}, not {about['digest']}")
        return data

    async def delete(self, name: str) -> None:
        about = await self._about(name)
        if about is not None:
            await self._purge(self._meta(name))
            await self._purge(f"$O.{self._bucket}.C.{about['nuid']}")

    def _meta(self, name: str) -> str:
        return f"$O.{self._bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"

    async def _about(self, name: str) -> dict[str, Any] | None:
        try:
            await self._jetstream.ask(f"STREAM.INFO.{self._stream}")
        except NotFound:
            return None
        message = await self._history.last(self._stream, self._meta(name))
        if message is None:
            return None
        about: dict[str, Any] = msgspec.json.decode(message.data)
        return None if about.get("deleted") else about

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
        await self._jetstream.ask(f"STREAM.CREATE.{self._stream}", config)
