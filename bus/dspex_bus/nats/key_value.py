"""Key-value buckets in the standard layout, without history and without markers: a deleted key leaves nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .. import crashing
from .._headers import EXPECTED_LAST, TTL
from ..buckets import Entry, KeyValue
from ..bus import Stored
from ..errors import Conflict, StoreFailed
from ..streams import lifetime_s
from .history import History
from .jetstream import JetStream

Store = Callable[[str, bytes, dict[str, str]], Awaitable[Stored]]


class NatsKeyValue(KeyValue):
    def __init__(self, jetstream: JetStream, history: History, store: Store, bucket: str) -> None:
        self._jetstream = jetstream
        self._history = history
        self._store = store
        self._bucket = bucket
        self._stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}."

    async def get(self, key: str) -> Entry | None:
        message = await self._history.last(self._stream, self._prefix + key)
        return None if message is None else Entry(message.data, message.sequence, message.time_ms)

    async def put(self, key: str, value: bytes, *, ttl_s: float | None = None) -> int:
        return await self._write(key, value, None, ttl_s)

    async def create(self, key: str, value: bytes, *, ttl_s: float | None = None) -> int:
        return await self._write(key, value, 0, ttl_s)

    async def update(self, key: str, value: bytes, revision: int, *, ttl_s: float | None = None) -> int:
        return await self._write(key, value, revision, ttl_s)

    async def _write(self, key: str, value: bytes, expected: int | None, ttl_s: float | None) -> int:
        headers = {} if expected is None else {EXPECTED_LAST: str(expected)}
        if ttl_s is not None:
            headers[TTL] = f"{lifetime_s(ttl_s)}s"
        stored = await self._store(self._prefix + key, value, headers)
        if not stored.created:
            raise Conflict(f"the key {key} was changed by somebody else", details={"key": key})
        return stored.sequence

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        subject = self._prefix + key
        crashing.before("purge", subject)
        if revision is None:
            await self._jetstream.ask(f"STREAM.PURGE.{self._stream}", {"filter": subject})
        else:
            await self._delete_message(key, revision)
        crashing.after("purge", subject)

    async def _delete_message(self, key: str, revision: int) -> None:
        """A key that was put again is another message. The server tells no absent one from one it could not erase."""
        try:
            await self._jetstream.ask(f"STREAM.MSG.DELETE.{self._stream}", {"seq": revision, "no_erase": True})
        except StoreFailed:
            entry = await self.get(key)
            if entry is not None and entry.revision == revision:
                raise

    async def keys(self, pattern: str = ">") -> list[str]:
        found: list[str] = []
        while True:
            body = {"subjects_filter": self._prefix + pattern, "offset": len(found)}
            answer = await self._jetstream.ask(f"STREAM.INFO.{self._stream}", body)
            subjects = answer["state"].get("subjects") or {}
            found += [subject.removeprefix(self._prefix) for subject in subjects]
            if not subjects or len(found) >= answer.get("total", 0):
                return sorted(found)

    async def count(self) -> int:
        state: dict[str, int] = (await self._jetstream.ask(f"STREAM.INFO.{self._stream}", {}))["state"]
        return state.get("num_subjects", 0)
