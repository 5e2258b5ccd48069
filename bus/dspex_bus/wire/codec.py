"""Bytes to structs and back, and errors to structs and back.

Messages inside the system are JSON; at the edge a client may ask for msgpack by ``Content-Type``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from ..errors import Conflict, DecodeError, DspexError, InvalidRequest, NotFound, NotPermitted, all_errors
from .journal import ErrorInfo, JournalEvent, StepOutcome
from .plans import read_event
from .task import Task
from .tokens import TokenMessage

JSON = "application/json"
MSGPACK = "application/msgpack"
CONTENT_TYPE = "Content-Type"

T = TypeVar("T")

_json = msgspec.json.Encoder()
_msgpack = msgspec.msgpack.Encoder()
_outcome = msgspec.json.Decoder(StepOutcome)
_task = msgspec.json.Decoder(Task)
_tokens = msgspec.json.Decoder(TokenMessage)
_decoders: dict[tuple[Any, str], Any] = {}


def content_type(headers: Mapping[str, str] | None) -> str:
    """``JSON`` or ``MSGPACK``, from the headers of a request."""
    said = headers.get(CONTENT_TYPE, "") if headers else ""
    return MSGPACK if said.partition(";")[0].strip().lower() == MSGPACK else JSON


def encode(message: Any, content: str = JSON) -> bytes:
    return _msgpack.encode(message) if content == MSGPACK else _json.encode(message)


def decode(kind: type[T], data: bytes, *, subject: str, content: str = JSON) -> T:
    """The message in ``data``, or DecodeError saying where it is wrong. Empty data counts as an empty object."""
    key = (kind, content)
    decoder = _decoders.get(key)
    if decoder is None:
        make = msgspec.msgpack.Decoder if content == MSGPACK else msgspec.json.Decoder
        decoder = _decoders[key] = make(kind)
    if not data:
        data = _json.encode({}) if content == JSON else _msgpack.encode({})
    return _guarded(decoder.decode, data, subject)  # type: ignore[no-any-return]


def decode_event(data: bytes, *, subject: str) -> JournalEvent:
    return _guarded(read_event, data, subject)  # type: ignore[no-any-return]


def decode_outcome(data: bytes, *, subject: str) -> StepOutcome:
    return _guarded(_outcome.decode, data, subject)  # type: ignore[no-any-return]


def decode_task(data: bytes, *, subject: str) -> Task:
    return _guarded(_task.decode, data, subject)  # type: ignore[no-any-return]


def decode_tokens(data: bytes, *, subject: str) -> TokenMessage:
    return _guarded(_tokens.decode, data, subject)  # type: ignore[no-any-return]


def _guarded(decode: Any, data: bytes, subject: str) -> Any:
    try:
        return decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"the message on {subject} is malformed: {error}", subject=subject, raw=data) from error


def event_type(event: JournalEvent) -> str:
    """The ``ce-type`` of an event, such as ``dspex.step.succeeded``."""
    return f"dspex.{event.__struct_config__.tag}"


def encode_event(event: JournalEvent, subject: str) -> tuple[bytes, dict[str, str]]:
    """Payload and CloudEvents headers (binary mode). An event's slot is written once, so its subject is its id."""
    return _json.encode(event), {
        "ce-specversion": "1.0",
        "ce-type": event_type(event),
        "ce-source": "dspex",
        "ce-id": subject,
    }


_CALLED: tuple[type[DspexError], ...] = (InvalidRequest, NotFound, NotPermitted, Conflict)
_CALLERS = {kind.status: kind for kind in _CALLED}


def error_info(error: BaseException) -> ErrorInfo:
    """An error as it travels. Anything that is not ours becomes ``internal`` and names its type."""
    if isinstance(error, DspexError):
        return ErrorInfo(code=error.code, message=error.message, retryable=error.retryable, details=error.details)
    return ErrorInfo(code="internal", message=f"{type(error).__name__}: {error}")


def error_from(info: ErrorInfo, status: int = 0) -> DspexError:
    """The error class for a code from the wire. For a code that no class has it is the reply's ``status`` that tells,
    where the fault is the caller's, or a plain DspexError; with that code."""
    cls = all_errors().get(info.code) or _CALLERS.get(status) or DspexError
    made = cls.__new__(cls)
    DspexError.__init__(made, info.message, code=info.code, retryable=info.retryable, details=info.details)
    if isinstance(made, DecodeError):
        made.raw = b""  # the bytes stay where they were
    return made
