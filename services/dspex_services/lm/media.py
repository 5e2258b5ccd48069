"""What a message carries besides text, for limits on tokens. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_USUAL = 4_000
"""Bytes of text that take about as many tokens as a picture or a page does, whatever its size."""


def excess(messages: Sequence[Any]) -> int:
    """By how many bytes pictures, recordings and files make a body longer than text of as many tokens."""
    over = 0
    for message in messages:
        # A dict is known at once; to ask an abstract class costs several times that.
        content = message.get("content") if isinstance(message, (dict, Mapping)) else None
        if isinstance(content, list):
            over += sum(max(0, _data(part) - _USUAL) for part in content)
    return over


def _data(part: Any) -> int:
    """The length of what a part of another type than text holds, under the name of its type."""
    held = part.get(part.get("type")) if isinstance(part, Mapping) else None
    return sum(len(one) for one in held.values() if isinstance(one, str)) if isinstance(held, Mapping) else 0
