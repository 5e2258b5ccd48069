"""Which subjects a pattern covers."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=16_384)
def matches(pattern: str, subject: str) -> bool:
    """Whether ``subject`` is covered by ``pattern``: ``*`` is one token, a last ``>`` one or more."""
    wanted, found = pattern.split("."), subject.split(".")
    for place, token in enumerate(wanted):
        if token == ">":
            return len(found) > place
        if place >= len(found) or token not in ("*", found[place]):
            return False
    return len(wanted) == len(found)
