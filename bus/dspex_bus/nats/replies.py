"""Answers: one inbox for everything we ask, each question with a token of its own."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from ..bus import Headers, Message
from ..errors import DeadlineExceeded, Disconnected, DspexError, NotPermitted, Unavailable
from .connection import Connection
from .headers import LazyHeaders, header_block

logger = logging.getLogger("dspex.bus")

OnAnswer = Callable[[Message], None]

RESTING = 256
"""As many subjects rest before one of them is used again."""


def status_of(message: Message) -> str:
    """The status of a message from the server itself (``503``, ``404``, …), '' for any other."""
    return message.headers.status if isinstance(message.headers, LazyHeaders) else ""


class Replies:
    """Questions that wait. Those asked with :meth:`request` and :meth:`collect` fail at once when the connection is
    lost, or when the server does not let us ask."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._inbox = connection.new_inbox()
        self._waiting: dict[str, OnAnswer] = {}
        self._asked: dict[asyncio.Future[Message], str] = {}
        self._count = 0
        self._free: deque[str] = deque()
        connection.when_lost(self._lost)
        connection.when_refused(self._refused)

    async def open(self) -> None:
        await self._connection.confirm(await self._connection.hear(f"{self._inbox}.*", self._on_message))

    def expect(self, answer: OnAnswer) -> str:
        """The subject to which the answer must come. It stays expected until :meth:`forget`."""
        if len(self._free) > RESTING:
            reply = self._free.popleft()
        else:
            self._count += 1
            reply = f"{self._inbox}.{self._count}"
        self._waiting[reply] = answer
        return reply

    def forget(self, reply: str) -> None:
        self._waiting.pop(reply, None)

    def answered(self, reply: str) -> None:
        """The one answer has come that can come: the subject is used again, after a rest. To the server one that it has
        routed to before is cheaper than a new one."""
        if self._waiting.pop(reply, None) is not None:
            self._free.append(reply)

    def _on_message(self, message: Message) -> None:
        answer = self._waiting.get(message.subject)
        if answer is not None:
            try:
                answer(message)
            except Exception:  # one answer must not end the connection for all others
                logger.exception("an answer was not taken in")

    def _lost(self) -> None:
        for future in self._asked:
            _fail(future, Disconnected("the connection was lost before the answer came"))

    def _refused(self, subject: str, error: NotPermitted) -> None:
        for future, asked in self._asked.items():
            if asked.lower() == subject:
                _fail(future, error)

    async def request(self, subject: str, data: bytes, headers: Headers | None, timeout_s: float) -> Message:
        """The first answer."""
        return await self.collect(subject, data, headers, timeout_s, lambda _: True)

    async def collect(
        self, subject: str, data: bytes, headers: Headers | None, timeout_s: float, last: Callable[[Message], bool]
    ) -> Message:
        """Every answer goes through ``last``, until it says that one is; that one."""
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def answered(message: Message) -> None:
            if not future.done() and last(message):
                future.set_result(message)

        reply = self.expect(answered)
        self._asked[future] = subject
        try:
            async with asyncio.timeout(timeout_s):
                await self._connection.send(subject, data, reply, header_block(headers), later=False)
                message = await future
        except TimeoutError as error:
            raise DeadlineExceeded(f"no answer on {subject} within {timeout_s:g} s") from error
        finally:
            self.forget(reply)
            del self._asked[future]
            if future.done() and not future.cancelled():
                future.exception()  # it may have failed while the question was still being sent
        if status_of(message) == "503":
            raise Unavailable(f"nobody listens on {subject}", code="no_responders")
        return message


def _fail(future: asyncio.Future[Message], error: DspexError) -> None:
    if not future.done():
        future.set_exception(error)
