"""What the rest of dspex asks of the buckets on a bus: keys with values, and objects."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Entry:
    """``time_ms`` is when it was stored, milliseconds since the epoch, by the server's clock."""

    value: bytes
    revision: int
    time_ms: int = field(default=0, compare=False)


class KeyValue(ABC):
    """Keys are dotted tokens. Compare-and-swap by revision; no history, no delete markers. Reading from a bucket that
    is not there raises NotFound, writing to it StoreFailed."""

    @abstractmethod
    async def get(self, key: str) -> Entry | None: ...

    @abstractmethod
    async def put(self, key: str, value: bytes, *, ttl_s: float | None = None) -> int:
        """The new revision. ``ttl_s`` (at least 1 s, rounded up to whole seconds, only in buckets made with ``ttl``)
        makes the key vanish."""

    @abstractmethod
    async def create(self, key: str, value: bytes, *, ttl_s: float | None = None) -> int:
        """Like ``put``; Conflict if the key is there."""

    @abstractmethod
    async def update(self, key: str, value: bytes, revision: int, *, ttl_s: float | None = None) -> int:
        """Like ``put``; Conflict unless the key is still at ``revision``."""

    @abstractmethod
    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """Erase the key, leaving nothing; with ``revision`` only where it is still at that. Absent keys are fine."""

    @abstractmethod
    async def keys(self, pattern: str = ">") -> list[str]:
        """Keys that match a subject pattern, sorted."""

    @abstractmethod
    async def count(self) -> int:
        """How many keys there are, without a look at them."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """``modified_ms`` is when it was stored, milliseconds since the epoch, by the server's clock."""

    name: str
    size: int
    digest: str
    modified_ms: int


class ObjectStore(ABC):
    @abstractmethod
    async def put(self, name: str, data: bytes) -> str:
        """Store, replacing; the content's digest, ``sha256:<hex>``. PayloadTooLarge where the bucket takes none of that
        size."""

    @abstractmethod
    async def get(self, name: str) -> bytes | None:
        """The content, its digest checked; None where there is none."""

    @abstractmethod
    async def delete(self, name: str) -> None:
        """Absent ones are fine."""

    @abstractmethod
    async def contents(self) -> list[ObjectInfo]:
        """What there is, oldest first; nothing where there is no bucket yet."""

    @abstractmethod
    async def tidy(self, before_ms: int) -> int:
        """Erase what is left of objects that were deleted, or whose storing was broken off, before that (milliseconds
        since the epoch); of how many."""
