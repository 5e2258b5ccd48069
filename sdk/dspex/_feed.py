"""Live events and tokens of one session, and the knowledge of having missed some."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime

import anyio

from dspex_bus import Message, subjects
from dspex_bus.claim import claimed
from dspex_bus.errors import DecodeError, SlowConsumer
from dspex_bus.wire import StoredEvent, TokenMessage, TokensEnded, TokensStarted, decode_event, decode_tokens

_CAPACITY = 1024
_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """What one attempt of the step ``node`` said of its model's tokens."""

    node: str
    attempt: int
    message: TokenMessage


class Feed:
    """A bounded buffer between the bus and one consumer. ``behind`` is True when events may have been missed (at the
    start, after a reconnect, when the consumer was slower than the buffer), or came without their bodies, which are too
    large for a message: the journal is read then. Tokens can be had nowhere else: ``overrun`` says that the consumer
    was too slow for them."""

    def __init__(self) -> None:
        self.behind = True
        self.overrun = False
        self._events: deque[StoredEvent] = deque()
        self._tokens: deque[TokenEvent] = deque()
        self._open: set[tuple[str, int]] = set()
        self._wake = anyio.Event()

    async def on_message(self, message: Message) -> None:
        if len(self._events) >= _CAPACITY:
            self._events.clear()
            self.behind = True
        if claimed(message.data, message.headers) is None:
            self._events.append(live_event(message))
        else:
            self.behind = True
        self._wake.set()

    async def on_tokens(self, message: Message) -> None:
        try:
            said = decode_tokens(message.data, subject=message.subject)
        except DecodeError:
            return  # of a later version than ours
        _, node, attempt = subjects.split_token_stream(message.subject)
        if isinstance(said, TokensStarted):
            self._open.add((node, attempt))
        elif isinstance(said, TokensEnded):
            self._open.discard((node, attempt))
        if len(self._tokens) >= _TOKENS:
            self.overrun = True
        elif not self.overrun:
            self._tokens.append(TokenEvent(node, attempt, said))
        self._wake.set()

    def token(self) -> TokenEvent | None:
        """The next that has come. Raises SlowConsumer after the last before a loss."""
        if self._tokens:
            return self._tokens.popleft()
        if self.overrun:
            raise SlowConsumer("tokens came faster than they were taken; the run goes on")
        return None

    @property
    def speaking(self) -> bool:
        """Whether an attempt has begun to say tokens and not said its last word."""
        return bool(self._open)

    async def more_tokens(self, within_s: float) -> None:
        """Until there are some, or the time is over."""
        with anyio.move_on_after(within_s):
            while not self._tokens and not self.overrun:
                self._wake = anyio.Event()
                await self._wake.wait()

    async def on_reconnect(self) -> None:
        self.behind = True
        self._wake.set()

    async def next(self, quiet_s: float) -> StoredEvent | None:
        """The next live event; None where there are tokens, which come first, or when the journal should be asked, at
        the latest after ``quiet_s`` seconds."""
        while not (self._events or self._tokens or self.overrun or self.behind):
            with anyio.move_on_after(quiet_s) as waited:
                await self._wake.wait()
            if waited.cancelled_caught:
                self.behind = True
            self._wake = anyio.Event()
        return None if self.behind or self._tokens or not self._events else self._events.popleft()


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
