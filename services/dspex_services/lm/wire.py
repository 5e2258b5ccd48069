"""What the two wire protocols share: the shape of a prepared call, and how a refusal becomes an error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from .errors import LMAuth, LMBadReply, LMBadRequest, LMError, LMRateLimited, LMUnavailable
from .types import LMConfig, LMReply, LMRequest

_OVERLOADED = 529
_SHOWN = 300


class WireCall(NamedTuple):
    """A POST: the path under the base URL, headers, and the JSON body."""

    path: str
    headers: dict[str, str]
    body: bytes


class Wire(Protocol):
    """One provider's protocol, as pure functions."""

    KEY_VARIABLE: str
    DEFAULT_BASE_URL: str

    def encode(self, config: LMConfig, request: LMRequest, key: str | None) -> WireCall: ...

    def decode(self, body: bytes) -> LMReply: ...


class _Refusal(msgspec.Struct):
    message: str = ""


class _RefusalBody(msgspec.Struct):
    error: _Refusal | str = ""


_refusal = msgspec.json.Decoder(_RefusalBody)


def failure(config: LMConfig, key_variable: str, status: int, headers: Mapping[str, str], body: bytes) -> LMError:
    """The error for an HTTP answer outside 2xx; both protocols carry ``{"error": {"message": …}}``."""
    said = _message(body)
    details: dict[str, Any] = {"http_status": status, "provider": config.provider}
    wait = retry_after(headers.get("Retry-After"))
    if wait is not None:
        details["retry_after_s"] = wait
    who = f"{config.model} at {config.base_url or 'the provider'}"
    if status in (401, 403):
        return LMAuth(f"{who} refused the key ({status}): set {key_variable} to a valid key. {said}", details=details)
    if status == 429:
        return LMRateLimited(f"{who} is limiting calls (429): lower the concurrency or wait. {said}", details=details)
    if status >= 500 or status in (408, _OVERLOADED):
        return LMUnavailable(f"{who} is failing ({status}): try again later. {said}", details=details)
    if status == 404:
        return LMBadRequest(f"{who} does not exist (404): check the model name and base URL. {said}", details=details)
    return LMBadRequest(f"{who} refused the request ({status}): {said}", details=details)


def retry_after(value: str | None) -> float | None:
    """Seconds from a ``Retry-After`` header; its date form, which these APIs do not send, counts as absent."""
    try:
        seconds = float(value) if value else None
    except ValueError:
        return None
    return seconds if seconds is not None and math.isfinite(seconds) and seconds >= 0 else None


def bad_reply(reason: str, body: bytes) -> LMBadReply:
    shown = body[:_SHOWN].decode(errors="replace")
    return LMBadReply(
        f"the model's answer is not what its protocol promises ({reason}): check that the base URL "
        f"points at an API of that kind. It begins {shown!r}"
    )


def _message(body: bytes) -> str:
    try:
        error = _refusal.decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body[:_SHOWN].decode(errors="replace")
    return (error if isinstance(error, str) else error.message)[:_SHOWN]
