"""Stores: messages for streams, tracked until the server has answered."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import msgspec

from .. import crashing
from .._headers import EXPECTED_LAST, RESENT
from .._waiting import tell
from ..bus import Headers, Message, OnStored, Stored
from ..errors import DeadlineExceeded, Disconnected, DspexError, NotPermitted, StoreFailed
from .connection import Connection
from .headers import header_block, with_header
from .jetstream import WRITE_UNDER_WAY, WRONG_LAST_SEQUENCE, ApiError, pub_ack, translated
from .replies import Replies, status_of

logger = logging.getLogger("dspex.bus")

SILENCE_S = 2.0
"""A slot's message is published again after that long without an answer; others are given up after twice that."""

_ONCE = header_block({EXPECTED_LAST: "0"})
_VERSION = len("NATS/1.0\r\n")
_RESENT = RESENT.encode()
_SWEEP_S = 0.5
_REPAIRS = 3


@dataclass(eq=False)
class Outstanding:
    """``live``: it has been handed to a connection, not kept for the next one. ``again``: it has been sent more than
    once, or may have been: there may be several answers."""

    subject: str
    data: bytes
    headers: bytes
    once: bool
    then: OnStored | None
    reply: str = ""
    sent: float = 0.0
    live: bool = False
    again: bool = False
    repairs: int = 0


class Stores:
    """``repair`` is awaited when the server says that no stream keeps a subject: it may have lost one at a restart."""

    def __init__(self, connection: Connection, replies: Replies, repair: Callable[[], Awaitable[None]]) -> None:
        self._connection = connection
        self._replies = replies
        self._repair = repair
        self._outstanding: dict[str, Outstanding] = {}
        self._empty = asyncio.Event()
        connection.when_lost(self._lost)
        connection.when_refused(self._refused)

    def open(self) -> None:
        self._connection.tasks.start(self._sweep(), "stores: sweep")

    async def store(
        self, subject: str, data: bytes, headers: Headers | None, once: bool, then: OnStored | None
    ) -> None:
        block = header_block(headers)
        if once:
            block = b"%b%b" % (_ONCE[:-2], block[_VERSION:]) if block else _ONCE
        self._connection.check(subject, data, block)
        message = Outstanding(subject, data, block, once, then)
        message.reply = self._replies.expect(partial(self._answered, message))
        self._outstanding[message.reply] = message
        crashing.before("store", subject)
        await self._send(message)

    async def _send(self, message: Outstanding) -> None:
        message.sent = time.monotonic()
        message.live = self._connection.connected
        if not message.live and message.once:
            return  # the connection's return sends it
        try:
            await self._connection.hand_on(message.subject, message.data, message.reply, message.headers)
        except DspexError as error:
            if not message.once or not error.retryable:
                self._settle(message, error)

    async def _send_again(self, message: Outstanding) -> None:
        """It says so, where there is room for that: a slot of a work queue may have been filled by it, and emptied."""
        message.again = True
        if message.once and _RESENT not in message.headers:
            marked = with_header(message.headers, RESENT, "1")
            if len(message.data) + len(marked) <= self._connection.max_payload:
                message.headers = marked
        try:
            self._connection.check(message.subject, message.data, message.headers)  # it may be another server
        except DspexError as error:
            self._settle(message, error)
        else:
            await self._send(message)

    def _answered(self, message: Outstanding, answer: Message) -> None:
        crashing.after("store", message.subject)
        if answer.headers is not None and status_of(answer) == "503":
            self._connection.tasks.start(self._no_stream(message), "stores: repair")
            return
        try:
            ack = pub_ack(answer.data)
        except msgspec.MsgspecError as error:
            self._settle(message, StoreFailed(f"{message.subject}: an answer that is none: {error}"))
            return
        if ack.error is None:
            self._settle(message, Stored(ack.seq))
        else:
            self._turned_down(message, ack.error)

    def _turned_down(self, message: Outstanding, error: ApiError) -> None:
        if error.err_code == WRONG_LAST_SEQUENCE:
            self._settle(message, Stored(0, created=False))
        elif error.err_code == WRITE_UNDER_WAY and message.once:
            message.sent = 0.0  # the next sweep sends it again, and hears how that was decided
        else:
            self._settle(message, translated(error, f"{message.subject} was not stored"))

    async def _no_stream(self, message: Outstanding) -> None:
        """Make the streams we were told of, and try again; after a few times it is the caller's."""
        message.repairs += 1
        message.sent = time.monotonic()
        if message.repairs <= _REPAIRS and message.reply in self._outstanding:
            try:
                await self._repair()
                await asyncio.sleep(0.05 * (message.repairs - 1))
                await self._send_again(message)
                return
            except DspexError as error:
                logger.warning("streams could not be mended: %s", error)
                if not message.once or not error.retryable:
                    self._settle(message, error)
                return  # the sweep sends a slot's message again
        self._settle(message, StoreFailed(f"no stream keeps {message.subject}", details={"subject": message.subject}))

    def _settle(self, message: Outstanding, result: Stored | Exception) -> None:
        if self._outstanding.pop(message.reply, None) is None:
            return
        if message.again or isinstance(result, Exception):
            self._replies.forget(message.reply)
        else:
            self._replies.answered(message.reply)
        if not self._outstanding:
            self._empty.set()
        if message.then is not None:
            tell(message.then, result, message.subject)

    def _lost(self) -> None:
        """Nobody will say any more whether what was under way has been stored. A slot is asked again."""
        for message in list(self._outstanding.values()):
            if message.live and not message.once:
                self._settle(
                    message, Disconnected(f"the connection was lost before {message.subject} was known to be stored")
                )

    def _refused(self, subject: str, error: NotPermitted) -> None:
        for message in list(self._outstanding.values()):
            if message.subject.lower() == subject:
                self._settle(message, error)

    async def send_again(self) -> None:
        """After the connection's return: what was sent through the old one may never have arrived."""
        for message in list(self._outstanding.values()):
            if message.once:
                await self._send_again(message)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = time.monotonic()
            for message in list(self._outstanding.values()):
                silent = now - message.sent
                if message.once and silent > SILENCE_S:
                    await self._send_again(message)
                elif not message.once and silent > 2 * SILENCE_S:
                    error = DeadlineExceeded(f"the server did not say that {message.subject} was stored")
                    self._settle(message, error)

    async def drained(self, timeout_s: float) -> None:
        """Until every store is answered, or the time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._outstanding:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            logger.warning("%d messages were not acknowledged before the end", len(self._outstanding))
