"""Requests to a system, and its answers or errors."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

import dspex_bus.signatures.errors  # noqa: F401 - an error's code becomes one of the classes that are loaded
import dspex_services.errors  # noqa: F401
from dspex_bus import Bus, subjects
from dspex_bus.claim import Claims
from dspex_bus.errors import InvalidRequest, NoRouter, Unavailable
from dspex_bus.wire import ErrorInfo, decode, encode, error_from

if TYPE_CHECKING:
    from dspex_bus import Message

T = TypeVar("T")


SAFE_AGAIN = frozenset(
    {
        *(f"session.{verb}" for verb in ("get", "list", "result", "events", "cancel", "pause", "resume", "signal")),
        *(f"session.{verb}" for verb in ("retry", "fork")),
        *(f"{family}.{verb}" for family in ("pipeline", "schedule") for verb in ("get", "put", "list")),
        *(f"schedule.{verb}" for verb in ("pause", "resume")),
        *(f"limit.{verb}" for verb in ("put", "list")),
        *("pools.list", "letters.list", "letters.show"),
    }
)
"""What may be asked twice without anything happening twice: it only reads, it says how something shall be, or it brings
an id of its own. An answer that was lost would make an error of a deletion's second time, and a call's effects two."""

_PASSING = frozenset({"disconnected", "no_router", "store_failed", "unavailable"})
"""Codes of errors that say that the system was not there just then. Of others a client is told at once: one that is
asked for less, for example, should ask for less."""

_PAUSE_S = (0.05, 1.0)


class Asking:
    """What all parts of a client share: one connection, and how a request is made on it."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._claims = Claims(bus)
        self._was_there = False

    async def ask(self, family: str, verb: str, request: Any, reply: type[T], *, timeout_s: float = 10.0) -> T:
        """One request to the router's ``dspex.v1.<family>.<verb>``. What is safe to ask again is, within ``timeout_s``,
        where the system is not there just then, and has been before."""
        subject = f"{subjects.ROOT}.{family}.{verb}"
        if f"{family}.{verb}" in SAFE_AGAIN:
            return await self._ask_again(subject, request, reply, timeout_s)
        return await self._ask(subject, request, reply, timeout_s)

    async def _ask_again(self, subject: str, request: Any, reply: type[T], timeout_s: float = 10.0) -> T:
        until, pause = time.monotonic() + timeout_s, _PAUSE_S[0]
        while True:
            try:
                return await self._ask(subject, request, reply, max(until - time.monotonic(), pause))
            except Unavailable as error:
                if error.code not in _PASSING or not self._was_there or time.monotonic() + pause > until:
                    raise
            await anyio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _PAUSE_S[1])

    async def _ask(self, subject: str, request: Any, reply: type[T], timeout_s: float = 10.0) -> T:
        data = _encoded(request)
        try:
            answer = await self._claims.request(subject, data, timeout_s=timeout_s)
        except Unavailable as error:
            if error.code != "no_responders":
                raise
            raise NoRouter("no router answers on this server; start one: dspex up, or dspex router") from error
        self._was_there = True
        _raise_error(answer)
        return decode(reply, answer.data, subject=subject)


def _encoded(request: Any) -> bytes:
    try:
        return b"" if request is None else encode(request)
    except (TypeError, ValueError, RecursionError) as error:  # what a user put into it
        raise InvalidRequest(f"what is asked cannot be sent as JSON: {error}") from error


def _raise_error(answer: Message) -> None:
    if answer.headers and (status := answer.headers.get("Nats-Service-Error-Code")):
        raise error_from(decode(ErrorInfo, answer.data, subject=answer.subject), int(status))
