"""How deep values may be nested: far less than decoders can bear, since they are put into others on their way."""

from __future__ import annotations

import re

from ..errors import DecodeError

DEEPEST = 200

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def refuse_deep(data: bytes, subject: str) -> None:
    """Raises DecodeError where a JSON document, one that can be decoded, is nested deeper than :data:`DEEPEST`. Most
    have fewer brackets in all."""
    if data.count(b"[") + data.count(b"{") <= DEEPEST:
        return
    brackets = _STRING.sub(b"", data).translate(None, _NO_BRACKETS)
    for _ in range(DEEPEST):
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if not brackets:
            return
    message = f"the message on {subject} is nested more than {DEEPEST} deep"
    raise DecodeError(message, subject=subject, raw=data)
