"""Key-value and objects in memory."""

from __future__ import annotations

import asyncio
import hashlib
import time

from .._headers import EXPECTED_LAST
from ..buckets import Entry, KeyValue, ObjectInfo, ObjectStore
from ..errors import Conflict, NotFound, PayloadTooLarge, StoreFailed
from ..streams import lifetime_s
from .server import MemoryServer
from .stream import Stream, Taken


class MemoryKeyValue(KeyValue):
    def __init__(self, server: MemoryServer, bucket: str) -> None:
        self._server = server
        self._bucket = bucket
        self._prefix = f"$KV.{bucket}."

    @property
    def _stream(self) -> Stream:
        try:
            return self._server.streams[f"KV_{self._bucket}"]
        except KeyError:
            raise NotFound(f"there is no bucket {self._bucket!r}") from None

    async def get(self, key: str) -> Entry | None:
        stream = self._stream
        message = stream.get(stream.last_of(self._prefix + key))
        return None if message is None else Entry(message.data, message.sequence, message.time_ms)

    async def put(self, key: str, value: bytes, *, ttl_s: float | None = None) -> int:
        return self._write(key, value, None, ttl_s)

    async def create(self, key: str, value: bytes, *, ttl_s: float | None = None) -> int:
        return self._write(key, value, 0, ttl_s)

    async def update(self, key: str, value: bytes, revision: int, *, ttl_s: float | None = None) -> int:
        return self._write(key, value, revision, ttl_s)

    def _write(self, key: str, value: bytes, expected: int | None, ttl_s: float | None) -> int:
        subject = self._prefix + key
        lifetime = None if ttl_s is None else lifetime_s(ttl_s)
        stream = self._server.stream_of(subject)
        if stream is None:
            raise StoreFailed(f"no stream keeps {subject}")
        if lifetime is not None and not self._server.buckets[self._bucket].ttl:
            raise StoreFailed(f"the bucket {self._bucket} was made without ttl", retryable=False)
        before = stream.last_of(subject)
        try:
            headers = None if expected is None else {EXPECTED_LAST: str(expected)}
            sequence = self._server.store(stream, subject, value, headers).sequence
        except Taken:
            raise Conflict(f"the key {key} was changed by somebody else", details={"key": key}) from None
        stream.remove(before)
        if lifetime is not None:
            asyncio.get_running_loop().call_later(lifetime, stream.remove, sequence)
        return sequence

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        subject = self._prefix + key
        if revision is None:
            self._stream.purge(subject)
        elif self._stream.last_of(subject) == revision:
            self._stream.remove(revision)

    async def keys(self, pattern: str = ">") -> list[str]:
        return [subject.removeprefix(self._prefix) for subject in self._stream.subjects(self._prefix + pattern)]

    async def count(self) -> int:
        return len(self._stream.subjects(f"{self._prefix}>"))


class MemoryObjects(ObjectStore):
    def __init__(self, server: MemoryServer, bucket: str) -> None:
        self._server = server
        self._objects = server.objects
        self._bucket = bucket

    async def put(self, name: str, data: bytes) -> str:
        spec = self._server.buckets.get(self._bucket)
        if spec is not None and spec.largest is not None and len(data) > spec.largest:
            raise PayloadTooLarge(
                f"{len(data):,} bytes: {self._bucket} takes objects of at most {spec.largest:,}",
                details={"size": len(data), "limit": spec.largest},
            )
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self._objects.pop((self._bucket, name), None)
        self._objects[self._bucket, name] = (data, ObjectInfo(name, len(data), digest, time.time_ns() // 1_000_000))
        return digest

    async def get(self, name: str) -> bytes | None:
        held = self._objects.get((self._bucket, name))
        return None if held is None else held[0]

    async def delete(self, name: str) -> None:
        self._objects.pop((self._bucket, name), None)

    async def contents(self) -> list[ObjectInfo]:
        return [info for (bucket, _), (_, info) in self._objects.items() if bucket == self._bucket]

    async def tidy(self, before_ms: int) -> int:
        return 0  # an object is there whole, or not at all
