"""Requests to a system, and its answers or errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import dspex_bus.signatures.errors  # noqa: F401 - an error's code becomes one of the classes that are loaded
import dspex_services.errors  # noqa: F401
from dspex_bus import Bus, subjects
from dspex_bus.claim import Claims
from dspex_bus.errors import NoRouter, Unavailable
from dspex_bus.wire import ErrorInfo, decode, encode, error_from

if TYPE_CHECKING:
    from dspex_bus import Message

T = TypeVar("T")


class Asking:
    """What all parts of a client share: one connection, and how a request is made on it."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._claims = Claims(bus)

    async def ask(self, family: str, verb: str, request: Any, reply: type[T], *, timeout_s: float = 10.0) -> T:
        """One request to the router's ``dspex.v1.<family>.<verb>``."""
        return await self._ask(f"{subjects.ROOT}.{family}.{verb}", request, reply, timeout_s)

    async def _ask(self, subject: str, request: Any, reply: type[T], timeout_s: float = 10.0) -> T:
        data = b"" if request is None else encode(request)
        try:
            answer = await self._claims.request(subject, data, timeout_s=timeout_s)
        except Unavailable as error:
            if error.code != "no_responders":
                raise
            raise NoRouter("no router answers on this server; start one: dspex up, or dspex router") from error
        _raise_error(answer)
        return decode(reply, answer.data, subject=subject)


def _raise_error(answer: Message) -> None:
    if answer.headers and "Nats-Service-Error-Code" in answer.headers:
        raise error_from(decode(ErrorInfo, answer.data, subject=answer.subject))
