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
from ..buckets import ObjectInfo, ObjectStore
from ..bus import Stored
from ..errors import DspexError, NotFound, PayloadTooLarge, StoreFailed
from ..streams import LARGEST_KEY, BucketSpec
from .history import History
from .jetstream import JetStream
from .streams import make, objects_config

logger = logging.getLogger("dspex.bus")

CHUNK = 128 * 1024
Store = Callable[[str, bytes, dict[str, str]], Awaitable[Stored]]


class NatsObjects(ObjectStore):
    """A bucket that nobody has prepared is made by the first ``put``."""

    def __init__(self, jetstream: JetStream, history: History, store: Store, bucket: str) -> None:
        self._jetstream = jetstream
        self._history = history
        self._store = store
        self._bucket = bucket
        self._stream = f"OBJ_{bucket}"

    async def put(self, name: str, data: bytes) -> str:
        await self._ensure(len(data))
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
            read, about = about, await self._about(name, newest=True)
            if about is not None and about["nuid"] == read["nuid"]:
                raise StoreFailed(f"the object {name} is damaged: its digest is not {about['digest']}", retryable=False)
        return None

    async def delete(self, name: str) -> None:
        about = await self._about(name)
        if about is not None:
            await self._purge(self._meta(name))
            await self._purge(self._chunks(about["nuid"]))

    async def contents(self) -> list[ObjectInfo]:
        return [
            ObjectInfo(about["name"], about.get("size", 0), _hexadecimal(about.get("digest", "")), time_ms)
            for about, time_ms in await self._all()
        ]

    async def tidy(self, before_ms: int) -> int:
        chunks = await self._chunked()
        abouts = [about for about, _ in await self._all(deleted=True)]
        # Others' clients leave a note of what they delete.
        notes = {self._meta(about["name"]) for about in abouts if about.get("deleted")}
        count = 0
        for subject in notes | chunks - {self._chunks(about["nuid"]) for about in abouts}:
            newest = await self._history.last(self._stream, subject)
            if newest is not None and newest.time_ms < before_ms:
                await self._purge(subject)
                count += 1
        return count

    async def _all(self, *, deleted: bool = False) -> list[tuple[dict[str, Any], int]]:
        """What is said of each object, and when it was stored."""
        found = []
        try:
            async for message in self._history.read(self._stream, f"$O.{self._bucket}.M.>", 0):
                about: dict[str, Any] = msgspec.json.decode(message.data)
                if deleted or not about.get("deleted"):
                    found.append((about, message.time_ms))
        except NotFound:
            return []
        return found

    async def _chunked(self) -> set[str]:
        """The subjects that hold chunks."""
        found: set[str] = set()
        offset, total = 0, 1
        while offset < total:
            asked = {"subjects_filter": self._chunks(">"), "offset": offset}
            try:
                answer = await self._jetstream.ask(f"STREAM.INFO.{self._stream}", asked)
            except NotFound:
                break
            page = answer["state"].get("subjects") or {}
            found |= page.keys()
            offset, total = offset + len(page), answer.get("total", 0) if page else 0
        return found

    def _meta(self, name: str) -> str:
        return f"$O.{self._bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"

    def _chunks(self, id: str) -> str:
        return f"$O.{self._bucket}.C.{id}"

    async def _put_chunks(self, id: str, data: bytes) -> int:
        starts = range(0, len(data), CHUNK)
        for start in starts:
            await self._store(self._chunks(id), data[start : start + CHUNK], {})
        return len(starts)

    async def _about(self, name: str, *, newest: bool = False) -> dict[str, Any] | None:
        try:
            message = await self._history.last(self._stream, self._meta(name), newest=newest)
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

    async def _ensure(self, size: int) -> None:
        there = await make(self._jetstream, objects_config(BucketSpec(name=self._bucket)))
        largest = ((there or {}).get("metadata") or {}).get(LARGEST_KEY)
        if largest is not None and size > int(largest):
            raise PayloadTooLarge(
                f"{size:,} bytes: {self._bucket} takes objects of at most {int(largest):,}",
                details={"size": size, "limit": int(largest)},
            )


def _hexadecimal(digest: str) -> str:
    return f"sha256:{base64.urlsafe_b64decode(digest.removeprefix('SHA-256=')).hex()}"


def _named(digest: bytes) -> str:
    return f"SHA-256={base64.urlsafe_b64encode(digest).decode()}"
