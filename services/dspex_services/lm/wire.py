"""What the two wire protocols share: the shape of a prepared call, and how a refusal becomes an error."""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from .errors import (
    LMAuth,
    LMBadReply,
    LMBadRequest,
    LMContextTooLong,
    LMError,
    LMQuota,
    LMRateLimited,
    LMUnavailable,
)
from .sse import ServerEvent
from .types import Delta, LMConfig, LMReply, LMRequest

_OVERLOADED = 529
_SHOWN = 300


class WireCall(msgspec.Struct, frozen=True):
    """A POST: the path under the base URL, headers, and the JSON body."""

    path: str
    headers: dict[str, str]
    body: bytes


class Assembly(Protocol):
    """A reply in the making, from the events of its stream. Once it is ``over`` nothing more belongs to it."""

    over: bool

    def feed(self, event: ServerEvent) -> Sequence[Delta]:
        """What the event adds. Raises LMError where it is an error, or nothing the protocol knows."""

    def reply(self) -> LMReply:
        """The whole; LMUnavailable where the stream ended before it did."""


class Wire(Protocol):
    """One provider's protocol, as pure functions."""

    KEY_VARIABLE: str
    DEFAULT_BASE_URL: str

    def encode(self, config: LMConfig, request: LMRequest, key: str | None, *, stream: bool = False) -> WireCall: ...

    def decode(self, body: bytes) -> LMReply: ...

    def assembly(self, config: LMConfig) -> Assembly: ...


class Refusal(msgspec.Struct):
    """What both protocols say of an error, ``code`` being OpenAI's and ``type`` both's."""

    message: str = ""
    type: str | None = None
    code: str | int | None = None


class _RefusalBody(msgspec.Struct):
    error: Refusal | str = ""
    message: str = ""


class Said(Exception):
    """An error in the body of an answer that says of itself that it went well, as gateways send it."""

    def __init__(self, refusal: Refusal | str) -> None:
        super().__init__(refusal)
        code = "" if isinstance(refusal, str) else refusal.code
        limited = "rate_limit" in str(code) or code == "insufficient_quota"
        self.status = code if isinstance(code, int) and 400 <= code < 600 else 429 if limited else 502


_refusal = msgspec.json.Decoder(_RefusalBody)

_TOO_LONG = ("context_length_exceeded", "maximum context length", "prompt is too long", "context window")
_NO_CREDIT = ("insufficient_quota", "billing_error", "credit balance is too low")


def failure(config: LMConfig, key_variable: str, status: int, headers: Mapping[str, str], body: bytes) -> LMError:
    """The error for an HTTP answer outside 2xx; both protocols carry ``{"error": {"message": …}}``."""
    refusal = _said(body)
    said = refusal.message[:_SHOWN]
    details: dict[str, Any] = {"http_status": status, "provider": config.provider}
    wait = retry_after(headers, time.time())
    if wait is not None:
        details["retry_after_s"] = wait
    who = f"{config.model} at {config.base_url or 'the provider'}"
    if 300 <= status < 400:
        where = headers.get("Location", "an address that it does not say")
        return LMBadRequest(f"{who} sends calls on to {where} ({status}): set that as base URL", details=details)
    told = f"{refusal.code} {refusal.type} {refusal.message}".lower()
    if status in (400, 402, 403, 429) and any(word in told for word in _NO_CREDIT):
        return LMQuota(f"the account behind {who} has no credit left ({status}). {said}", details=details)
    if status in (401, 403):
        return LMAuth(f"{who} refused the key ({status}): set {key_variable} to a valid key. {said}", details=details)
    if status == 429:
        return LMRateLimited(f"{who} is limiting calls (429): lower the concurrency or wait. {said}", details=details)
    if status >= 500 or status in (408, _OVERLOADED):
        return LMUnavailable(f"{who} is failing ({status}): try again later. {said}", details=details)
    if status == 404:
        return LMBadRequest(f"{who} does not exist (404): check the model name and base URL. {said}", details=details)
    if status in (400, 413) and any(word in told for word in _TOO_LONG):
        return LMContextTooLong(f"the request has more tokens than {who} takes: send less. {said}", details=details)
    return LMBadRequest(f"{who} refused the request ({status}): {said}", details=details)


def failure_in_stream(config: LMConfig, refusal: Refusal) -> LMError:
    """The error for one that a server says after it had begun to answer."""
    details = {"provider": config.provider}
    said = f"{config.model} broke off its answer: {refusal.message[:_SHOWN]}"
    if "rate_limit" in f"{refusal.type} {refusal.code}":
        return LMRateLimited(said, details=details)
    if refusal.type == "invalid_request_error":
        return LMBadRequest(said, details=details)
    return LMUnavailable(said, details=details)


def cut(config: LMConfig) -> LMUnavailable:
    return LMUnavailable(f"the answer of {config.model} was cut before its end", details={"provider": config.provider})


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds from ``retry-after-ms``, or ``Retry-After`` as seconds or as a date; ``now`` is since the epoch."""
    wait = _number(headers.get("retry-after-ms"), 0.001)
    return wait if wait is not None else _wait(headers.get("Retry-After"), now)


def _wait(value: str | None, now: float) -> float | None:
    if not value:
        return None
    if (seconds := _number(value)) is not None:
        return seconds
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _number(value: str | None, unit: float = 1.0) -> float | None:
    try:
        number = float(value) * unit if value else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) and number >= 0 else None


def bad_reply(reason: str, body: bytes) -> LMBadReply:
    shown = body[:_SHOWN].decode(errors="replace")
    return LMBadReply(
        f"the model's answer is not what its protocol promises ({reason}): check that the base URL "
        f"points at an API of that kind. It begins {shown!r}"
    )


def _said(body: bytes) -> Refusal:
    try:
        found = _refusal.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Refusal(message=body[:_SHOWN].decode(errors="replace"))
    if isinstance(found.error, str):
        return Refusal(message=found.error or found.message)
    return found.error
