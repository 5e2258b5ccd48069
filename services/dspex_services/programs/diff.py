"""What differs between two programs' states, predictor by predictor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from .states import predictors

_ABSENT: dict[str, Any] = {}


class Change(NamedTuple):
    """``what`` is ``instructions``, ``field 2``, ``demos``, ``lm`` or ``predictor``; before or after is None where
    there is nothing."""

    predictor: str
    what: str
    kind: Literal["added", "removed", "changed"]
    before: Any
    after: Any


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Changes in the order of the first program's predictors, then the second's."""
    old, new = predictors(before), predictors(after)
    found: list[Change] = []
    for name in (*old, *(name for name in new if name not in old)):
        if name not in new:
            found.append(Change(name, "predictor", "removed", old[name], None))
        elif name not in old:
            found.append(Change(name, "predictor", "added", None, new[name]))
        else:
            found += _predictor(name, old[name], new[name])
    return found


def _predictor(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    was, now = old.get("signature", _ABSENT), new.get("signature", _ABSENT)
    yield from _value(name, "instructions", was.get("instructions"), now.get("instructions"))
    yield from _fields(name, was.get("fields", []), now.get("fields", []))
    yield from _demos(name, old.get("demos", []), new.get("demos", []))
    yield from _value(name, "lm", old.get("lm"), new.get("lm"))


def _fields(name: str, old: list[Any], new: list[Any]) -> Iterator[Change]:
    for place in range(max(len(old), len(new))):
        was = old[place] if place < len(old) else None
        now = new[place] if place < len(new) else None
        yield from _value(name, f"field {place + 1}", was, now)


def _demos(name: str, old: list[Any], new: list[Any]) -> Iterator[Change]:
    yield from (Change(name, "demos", "removed", demo, None) for demo in old if demo not in new)
    yield from (Change(name, "demos", "added", None, demo) for demo in new if demo not in old)


def _value(name: str, what: str, was: Any, now: Any) -> Iterator[Change]:
    if was != now:
        kind: Literal["added", "removed", "changed"]
        kind = "added" if was is None else "removed" if now is None else "changed"
        yield Change(name, what, kind, was, now)
