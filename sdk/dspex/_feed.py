"""Live events and tokens of one session, and the knowledge of having missed some."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import anyio

from dspex_bus import Bus, Message, subjects
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
        if subjects.journal_kind(message.subject) == "snapshot":
            return  # nothing has happened
        if len(self._events) >= _CAPACITY:
            self._events.clear()
            self.behind = True
        told = live_event(message) if claimed(message.data, message.headers) is None else None
        if told is None:
            self.behind = True
        else:
            self._events.append(told)
        self._wake.set()

    async def on_tokens(self, message: Message) -> None:
        told = token_event(message)
        if told is None:
            return
        if isinstance(told.message, TokensEnded):
            self._open.discard((told.node, told.attempt))
        else:
            self._open.add((told.node, told.attempt))
        if len(self._tokens) >= _TOKENS:
            self.overrun = True
        elif not self.overrun:
            self._tokens.append(told)
        self._wake.set()

    def token(self) -> TokenEvent | None:
        """The next that has come; None also where a stream begins while there are events, of the steps before, to be
        told first. Raises SlowConsumer after the last before a loss."""
        if self._tokens:
            begins = isinstance(self._tokens[0].message, TokensStarted)
            return None if begins and (self._events or self.behind) else self._tokens.popleft()
        self.check()
        return None

    def check(self) -> None:
        """Raises SlowConsumer where tokens are lost and all before them are taken."""
        if self.overrun and not self._tokens:
            raise SlowConsumer("tokens came faster than they were taken; the run goes on")

    def tokens_of(self, node: str, attempt: int) -> list[TokenEvent]:
        """What has come of one attempt's, or of the steps in the pipeline that it ran."""
        own, others = list[TokenEvent](), deque[TokenEvent]()
        for told in self._tokens:
            theirs = (told.node, told.attempt) == (node, attempt) or told.node.startswith(f"{node}-")
            (own if theirs else others).append(told)
        self._tokens = others
        return own

    def rest(self) -> list[TokenEvent]:
        """All that has come."""
        rest, self._tokens = list(self._tokens), deque()
        return rest

    def speaks(self, node: str, attempt: int) -> bool:
        """Whether an attempt has begun to say tokens and not said its last word."""
        return (node, attempt) in self._open

    @property
    def speaking(self) -> bool:
        """Whether any does."""
        return bool(self._open)

    async def change(self, within_s: float) -> None:
        """Until something comes, or the time is over."""
        self._wake = anyio.Event()
        with anyio.move_on_after(within_s):
            await self._wake.wait()

    async def on_reconnect(self) -> None:
        self.behind = True
        self._wake.set()

    async def next(self, quiet_s: float) -> StoredEvent | None:
        """The next live event; None where there are tokens and no event, or when the journal should be asked, at the
        latest after ``quiet_s`` seconds."""
        while not (self._events or self._tokens or self.overrun or self.behind):
            with anyio.move_on_after(quiet_s) as waited:
                await self._wake.wait()
            if waited.cancelled_caught:
                self.behind = True
            self._wake = anyio.Event()
        return None if self.behind or not self._events else self._events.popleft()


def token_event(message: Message) -> TokenEvent | None:
    """None for what a later version than ours may say."""
    try:
        said = decode_tokens(message.data, subject=message.subject)
    except DecodeError:
        return None
    _, node, attempt = subjects.split_token_stream(message.subject)
    return TokenEvent(node, attempt, said)


@asynccontextmanager
async def telling(bus: Bus, session: str, on_token: Callable[[TokenEvent], object]) -> AsyncIterator[None]:
    """``on_token`` is told what a session's steps say of tokens, until the end of the block and what came before it."""

    async def hear(message: Message) -> None:
        if (told := token_event(message)) is not None:
            on_token(told)

    async with bus.subscribed(subjects.session_tokens(session), hear):
        yield


def live_event(message: Message) -> StoredEvent | None:
    """The event in a message that the server republished, with its sequence and time from the headers. None for what
    is no event to us: what the journal makes of it is to be asked there."""
    headers = message.headers or {}
    place = subjects.split_journal(message.subject)
    try:
        event = decode_event(message.data, subject=message.subject)
    except DecodeError:
        return None
    return StoredEvent(
        sequence=int(headers["Nats-Sequence"]),
        time_ms=_milliseconds(headers["Nats-Time-Stamp"]),
        event=event,
        pool=place.pool,
        node=place.node,
        attempt=place.attempt,
    )


def _milliseconds(timestamp: str) -> int:
    """RFC 3339 with up to nine digits of a second; ``datetime`` reads six."""
    seconds, _, fraction = timestamp.rstrip("Z").partition(".")
    return round(datetime.fromisoformat(f"{seconds}+00:00").timestamp()) * 1000 + int((fraction + "000")[:3])
