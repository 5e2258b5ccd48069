"""What a handler raised, as an error that travels: whatever it is, it must fit into the journal and be read back."""

from __future__ import annotations

import logging
import traceback

import msgspec

from dspex_bus.errors import DspexError
from dspex_bus.wire import ErrorInfo, error_info

logger = logging.getLogger("dspex.worker")

_MOST_TEXT = 4_000
"""Characters of a message: a handler may raise with a whole document in its text."""
_MOST_DETAILS = 64_000
_LONGEST_WAIT_S = 86_400.0
_decode = msgspec.json.Decoder(ErrorInfo).decode


def described(error: BaseException, handler: str) -> ErrorInfo:
    """Our errors as they are; anything else is ``handler_error`` with its type, text and the line it came from."""
    if isinstance(error, DspexError):
        try:
            return _fitting(error_info(error))
        except (TypeError, ValueError, LookupError, RecursionError, msgspec.MsgspecError) as unfit:
            logger.error("the handler %s raised an error that cannot travel: %s", handler, unfit)
    else:
        logger.error("the handler %s raised", handler, exc_info=error)
    place = traceback.extract_tb(error.__traceback__)
    details = {"type": type(error).__name__}
    if place:
        details["at"] = f"{place[-1].name}, line {place[-1].lineno}"
    message = f"{handler}: {type(error).__name__}: {_text(error)}"
    return ErrorInfo(code="handler_error", message=_clipped(message), details=details)


def retry_after_ms(info: ErrorInfo) -> int:
    """The wait that the error asks for; 0 where it asks for none."""
    asked = info.details.get("retry_after_s", 0)
    if isinstance(asked, bool) or not isinstance(asked, int | float):
        return 0
    return int(1000 * min(max(asked, 0), _LONGEST_WAIT_S))


def _fitting(info: ErrorInfo) -> ErrorInfo:
    """The error as whoever reads it will see it. Raises where nobody could."""
    encoded = msgspec.json.encode(msgspec.structs.replace(info, message=_clipped(info.message)))
    read = _decode(encoded)
    if len(encoded) > _MOST_DETAILS + _MOST_TEXT:
        return msgspec.structs.replace(read, details={})
    return read


def _clipped(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # its own __str__ is user code too
        return "(it has no text)"
