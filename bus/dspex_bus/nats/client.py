"""nats-py's client, kept to one connection: our messages come out of it, and it never reconnects by itself.

A connection is over when its read loop ends, for whatever reason: end of file, a stale link, an error the server sends,
or an exception in the loop, which nats-py itself would leave unnoticed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from nats.aio.client import Client

from .._headers import EXPECTED_LAST
from ..bus import Message

_VERSION = b"NATS/1.0"
_DROPPED = frozenset({EXPECTED_LAST})


class LazyHeaders(Mapping[str, str]):
    """A message's headers, parsed at the first look: on the hot path nobody looks. What says how a message was to be
    stored is left out, lest it be stored on with it."""

    __slots__ = ("_parsed", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._parsed: dict[str, str] | None = None

    @property
    def status(self) -> str:
        """The inline status of a message from the server itself, such as ``503``; '' in all others."""
        return self._raw[9:12].decode() if self._raw[8:9] == b" " else ""

    @property
    def description(self) -> str:
        return self._raw.split(b"\r\n", 1)[0][12:].strip().decode("utf-8", "replace")

    def _all(self) -> dict[str, str]:
        if self._parsed is None:
            lines = (line.partition(b":") for line in self._raw.split(b"\r\n")[1:] if line)
            parsed = {
                name.decode("utf-8", "replace"): value.strip().decode("utf-8", "replace") for name, _, value in lines
            }
            self._parsed = {name: value for name, value in parsed.items() if name not in _DROPPED}
        return self._parsed

    def __getitem__(self, name: str) -> str:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return f"LazyHeaders({self._all()!r})"


class OneConnection(Client):  # type: ignore[misc]
    async def _process_headers(self, headers: bytes) -> LazyHeaders | None:
        return LazyHeaders(headers) if headers else None

    def _build_message(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> Message:
        return Message(subject.decode(), data, reply.decode(), headers)

    async def over(self) -> None:
        """Returns when nothing more will come through this connection."""
        if self._reading_task is not None:
            await asyncio.wait({self._reading_task})

    async def abandon(self, timeout_s: float = 1.0) -> None:
        """Close for good, flushing what can be flushed; also where the other side answers nothing any more."""
        with suppress(Exception):
            async with asyncio.timeout(timeout_s):
                await self.close()
        for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
            if task is not None:
                task.cancel()
        if self._transport:
            self._transport.close()
