"""What can be a name: of a pool, a pipeline, a program, a worker; each is one token of a subject or of a key."""

from __future__ import annotations

import re

from .errors import InvalidName

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DOTTED = re.compile(r"[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,7}")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


def token(value: str, what: str) -> str:
    """``value`` if it can be one subject token, else InvalidName saying what is wrong with which name."""
    if _TOKEN.fullmatch(value):
        return value
    raise InvalidName(
        f"{what} {value!r} cannot be used: 1 to 64 letters, digits, '_' or '-'", details={"what": what, "value": value}
    )


def dotted(value: str, what: str) -> str:
    """Like :func:`token` for names that may have dots, such as a handler's (``dspy.ChainOfThought``)."""
    if _DOTTED.fullmatch(value):
        return value
    raise InvalidName(
        f"{what} {value!r} cannot be used: letters, digits, '_' or '-', in up to 8 parts joined by dots",
        details={"what": what, "value": value},
    )


def safe(name: str) -> str:
    """A name from elsewhere, such as a host's, as one token."""
    return _UNSAFE.sub("-", name)[:64] or "-"
