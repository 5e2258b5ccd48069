"""Live events of one session, and the knowledge of having missed some."""

from __future__ import annotations

from collections import deque
from datetime import datetime

import anyio

from dspex_bus import Message, subjects
from dspex_bus.wire import StoredEvent, decode_event

_CAPACITY = 1024


class Feed:
    """A bounded buffer between the bus and one consumer. ``behind`` is True when events may have been missed (at the
    start, after a reconnect, when the consumer was slower than the buffer): the journal is read then."""

    def __init__(self) -> None:
        self.behind = True
        self._events: deque[StoredEvent] = deque()
        self._wake = anyio.Event()

    async def on_message(self, message: Message) -> None:
        if len(self._events) >= _CAPACITY:
            self._events.clear()
            self.behind = True
        self._events.append(live_event(message))
        self._wake.set()

    async def on_reconnect(self) -> None:
        self.behind = True
        self._wake.set()

    async def next(self, quiet_s: float) -> StoredEvent | None:
        """The next live event; None when the journal should be asked, at the latest after ``quiet_s`` seconds."""
        while not self._events and not self.behind:
            with anyio.move_on_after(quiet_s) as waited:
                await self._wake.wait()
            if waited.cancelled_caught:
                self.behind = True
            self._wake = anyio.Event()
        return None if self.behind else self._events.popleft()


def live_event(message: Message) -> StoredEvent:
    """The event in a message that the server republished, with its sequence and time from the headers."""
    headers = message.headers or {}
    place = subjects.split_journal(message.subject)
    return StoredEvent(
        sequence=int(headers["Nats-Sequence"]),
        time_ms=_milliseconds(headers["Nats-Time-Stamp"]),
        event=decode_event(message.data, subject=message.subject),
        pool=place.pool,
        node=place.node,
        attempt=place.attempt,
    )


def _milliseconds(timestamp: str) -> int:
    """RFC 3339 with up to nine digits of a second; ``datetime`` reads six."""
    seconds, _, fraction = timestamp.rstrip("Z").partition(".")
    return round(datetime.fromisoformat(f"{seconds}+00:00").timestamp()) * 1000 + int((fraction + "000")[:3])
