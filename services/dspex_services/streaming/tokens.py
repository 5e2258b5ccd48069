"""What an attempt says of its model's tokens: counted, bounded, and never a reason for the attempt to wait."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Coroutine
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from dspex_bus import Bus
from dspex_bus.errors import DspexError, Unavailable
from dspex_bus.wire import (
    StepFailed,
    StepLost,
    StepOutcome,
    StepSucceeded,
    StepTimedOut,
    TokenMessage,
    TokenPiece,
    TokensEnded,
    TokensStarted,
    TokenStatus,
    encode,
)

from .fields import FieldReader, Layout, Piece, reader_of

if TYPE_CHECKING:
    from ..lm import Delta

logger = logging.getLogger("dspex.worker")

_MOST_HELD = 256
"""Messages that may wait for the connection; of more the oldest are dropped, which their numbers show."""
_LARGEST = 8 * 1024
"""Characters up to which a piece that waits takes up what follows it."""
_FLUSH_S = 1.0
_AGAIN_S = 0.2
_PATIENCE_S = 5.0
"""How long the last words wait for a connection that is away."""


class Tokens:
    """One attempt's stream. ``spawn`` runs what is to be sent as a task of the worker's. ``piece`` and ``status`` may
    be called from any thread; they never wait."""

    def __init__(self, bus: Bus, subject: str, worker: str, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._bus = bus
        self._subject = subject
        self._spawn = spawn
        self._loop = asyncio.get_running_loop()
        self._held: deque[TokenMessage] = deque()
        self._sent = asyncio.Event()
        self._sending = False
        self._next = 0
        self._calls = 0
        self._ended = False
        self._give_up_at: float | None = None
        self._put(TokensStarted(sequence=self._number(), worker=worker))

    def call(self, layout: Layout, fields: Collection[str], predictor: str = "") -> Call:
        """For the reply of the next call of a model."""
        number, self._calls = self._calls, self._calls + 1
        return Call(self, number, reader_of(layout, fields), predictor)

    def piece(self, field: str, text: str, *, call: int = 0, predictor: str = "") -> None:
        """More text of a field."""
        self._here(self._piece, field, text, call, predictor)

    def status(self, text: str) -> None:
        self._here(self._status, text)

    async def end(self, outcome: StepOutcome | None) -> None:
        """The last word, on its way when this returns unless the connection is stuck. None: it was cancelled."""
        match outcome:
            case StepSucceeded():
                self.close("succeeded")
            case StepFailed():
                self.close("failed", outcome.error.code)
            case StepTimedOut():
                self.close("timed_out", outcome.error.code)
            case StepLost():
                self.close("lost", outcome.error.code)
            case _:
                self.close("cancelled")
        try:
            async with asyncio.timeout(_FLUSH_S):
                await self._sent.wait()
        except TimeoutError:
            logger.debug("%s: the last tokens are still on their way", self._subject)

    def close(
        self,
        status: Literal["succeeded", "failed", "timed_out", "cancelled", "lost", "interrupted"],
        code: str = "",
    ) -> None:
        """The last word, without waiting for it to be sent. Nothing is said after it."""
        if self._ended:
            return
        self._ended = True
        self._give_up_at = self._loop.time() + _PATIENCE_S
        self._put(TokensEnded(sequence=self._number(), status=status, code=code))

    def _here(self, work: Callable[..., None], *arguments: Any) -> None:
        """On the loop of the bus, in the order in which things are said."""
        try:
            at_home = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            at_home = False
        if at_home:
            work(*arguments)
        else:
            self._loop.call_soon_threadsafe(work, *arguments)

    def _piece(self, field: str, text: str, call: int, predictor: str) -> None:
        if self._ended or not text:
            return
        last = self._held[-1] if self._held else None
        if (
            isinstance(last, TokenPiece)
            and (last.field, last.call, last.predictor) == (field, call, predictor)
            and len(last.text) + len(text) <= _LARGEST
        ):
            self._held[-1] = msgspec.structs.replace(last, text=last.text + text)
            return
        self._put(TokenPiece(sequence=self._number(), field=field, text=text, call=call, predictor=predictor))

    def _status(self, text: str) -> None:
        if not self._ended:
            self._put(TokenStatus(sequence=self._number(), text=text))

    def _number(self) -> int:
        number, self._next = self._next, self._next + 1
        return number

    def _put(self, message: TokenMessage) -> None:
        if len(self._held) >= _MOST_HELD:
            self._held.popleft()
        self._held.append(message)
        self._sent.clear()
        if not self._sending:
            self._sending = True
            self._spawn(self._send())

    async def _send(self) -> None:
        try:
            while self._held:
                message = self._held.popleft()
                try:
                    await self._bus.publish(self._subject, encode(message))
                except Unavailable:
                    if self._give_up_at is not None and self._loop.time() > self._give_up_at:
                        return
                    if len(self._held) < _MOST_HELD:
                        self._held.appendleft(message)
                    await asyncio.sleep(_AGAIN_S)
                except DspexError as error:
                    logger.warning("tokens could not be said on %s: %s", self._subject, error)
        finally:
            self._sending = False
            self._sent.set()


class Call:
    """The reply of one call of a model, as it comes."""

    def __init__(self, tokens: Tokens, number: int, reader: FieldReader, predictor: str) -> None:
        self._tokens = tokens
        self._number = number
        self._reader = reader
        self._predictor = predictor

    async def hear(self, delta: Delta) -> None:
        """For an LM client that streams."""
        if delta.text:
            self.feed(delta.text)

    def feed(self, text: str) -> None:
        self._tell(self._reader.feed(text))

    def end(self) -> None:
        self._tell(self._reader.end())

    def _tell(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            self._tokens.piece(piece.field, piece.text, call=self._number, predictor=self._predictor)
