"""Create-once writes that are seen through: tried again with growing pauses, or replaced by something that fits."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from dspex_bus import Bus, Stored
from dspex_bus.bus import Headers
from dspex_bus.claim import Claims
from dspex_bus.errors import DspexError, PayloadTooLarge, StoreFailed
from dspex_bus.wire import RESENT

from .errands import Errands
from .timers import Timers

log = logging.getLogger(__name__)

_FIRST_PAUSE_MS = 100
_LONGEST_PAUSE_MS = 5_000


@dataclass(eq=False)
class Write:
    """One message for one slot, on behalf of a session. ``instead`` makes what is written where this cannot be:
    because of its size, or because the server kept refusing it. What is large is in the object store by the second
    try."""

    session: str
    subject: str
    data: bytes
    headers: Headers | None = None
    instead: Callable[[DspexError], Write] | None = None
    tries: int = 0


class Writer:
    """A slot lost to somebody else is no failure: the reader brings what they wrote. ``give_up`` is told of a
    session whose write can neither be stored nor replaced."""

    def __init__(
        self, bus: Bus, errands: Errands, timers: Timers, tries: int, give_up: Callable[[str, DspexError], None]
    ) -> None:
        self._bus = bus
        self._errands = errands
        self._timers = timers
        self._tries = tries
        self._give_up = give_up
        self._claims = Claims(bus)

    async def write(self, write: Write) -> None:
        """Returns when the message is handed to the connection, or what is large to somebody who sees to it."""
        if self._claims.large(write.data):
            self._errands.add(partial(self._write_large, write))
            return
        try:
            await self._bus.store(
                write.subject, write.data, headers=write.headers, once=True, then=partial(self._answered, write)
            )
        except DspexError as error:
            self._refused(write, error)

    async def _write_large(self, write: Write) -> None:
        try:
            write.data, write.headers = await self._claims.pack(write.subject, write.data, write.headers)
        except DspexError as error:
            self._refused(write, error)
        else:
            await self.write(write)

    def _answered(self, write: Write, result: Stored | Exception) -> None:
        if isinstance(result, DspexError):
            self._refused(write, result)
        elif isinstance(result, Exception):
            self._refused(write, StoreFailed(f"{type(result).__name__}: {result}"))
        elif isinstance(result, Stored) and not result.created and not write.data:
            self._errands.add(partial(self._claims.drop_unless_stored, write.subject, write.headers))

    def _refused(self, write: Write, error: DspexError) -> None:
        write.tries += 1
        if not isinstance(error, PayloadTooLarge) and write.tries < self._tries:
            pause = min(_FIRST_PAUSE_MS << write.tries, _LONGEST_PAUSE_MS)
            log.warning(
                "session %s: %s could not be stored, again in %d ms: %s", write.session, write.subject, pause, error
            )
            write.headers = {**(write.headers or {}), RESENT: "1"}  # what it is about may be over by then
            self._timers.after(pause, write.session, partial(self.write, write))
        elif write.instead is not None:
            self._errands.add(partial(self.write, write.instead(error)))
        else:
            self._give_up(write.session, error)
