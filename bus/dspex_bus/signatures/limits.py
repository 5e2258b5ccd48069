"""Limits on values (``int[ge=0, le=10]``): which make sense, how a value is checked, and their words for a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from .types import NUMBERS, Constrained, Limit, Type, limits_of

_LONGEST_PATTERN = 500

WORDS = {
    "gt": "greater than: ",
    "ge": "greater than or equal to: ",
    "lt": "less than: ",
    "le": "less than or equal to: ",
    "min_length": "minimum length: ",
    "max_length": "maximum length: ",
    "min_items": "minimum length: ",
    "max_items": "maximum length: ",
    "multiple_of": "a multiple of the given number: ",
}
"""DSPy's words for each; a pattern has none."""

_SAYS = {
    "gt": "more than {}",
    "ge": "at least {}",
    "lt": "less than {}",
    "le": "at most {}",
    "multiple_of": "a multiple of {}",
    "min_length": "at least {} characters",
    "max_length": "at most {} characters",
    "min_items": "at least {} items",
    "max_items": "at most {} items",
    "pattern": "a text that matches {!r}",
}

Check = Callable[[Any], bool]


def why_not(base: Type, so_far: Iterable[Limit], name: str, value: Any) -> tuple[str, str | None]:
    """The reason why a limit cannot be put on a type, '' where it can, and a suggestion or None."""
    if isinstance(base, Constrained):
        return "limits go into one pair of brackets", None
    possible = limits_of(base)
    if name not in possible:
        kind = f"{base} has no limit {name!r}"
        return kind, f"it has: {', '.join(possible)}" if possible else "only numbers, str, lists and dicts have limits"
    if any(limit.name == name for limit in so_far):
        return f"the limit {name!r} is given twice", None
    if name == "pattern":
        return _why_not_pattern(value)
    if isinstance(value, str):
        return f"the limit {name} is a number", None
    if name not in NUMBERS and (not isinstance(value, int) or value < 0):
        return f"the limit {name} is a whole number, 0 or more", None
    if name == "multiple_of" and value <= 0:
        return "the limit multiple_of is more than 0", None
    if not _possible([*so_far, Limit(name, value)]):
        return "no value keeps to all of these limits", None
    return "", None


def _why_not_pattern(value: Any) -> tuple[str, str | None]:
    if not isinstance(value, str):
        return "a pattern is a text in quotes", None
    if len(value) > _LONGEST_PATTERN:
        return f"a pattern has at most {_LONGEST_PATTERN} characters", None
    try:
        re.compile(value)
        matcher(value)("")
    except (re.error, ValueError) as error:
        return f"the pattern is wrong: {error}", None
    return "", None


def _possible(limits: list[Limit]) -> bool:
    at = {limit.name: limit.value for limit in limits}
    for low, high, both in (("ge", "le", True), ("gt", "lt", False), ("ge", "lt", False), ("gt", "le", False)):
        if low in at and high in at and (at[low] > at[high] or (at[low] == at[high] and not both)):  # type: ignore[operator]
            return False
    return not any(
        at.get(f"min_{what}", 0) > at.get(f"max_{what}", at.get(f"min_{what}", 0))  # type: ignore[operator]
        for what in ("length", "items")
    )


def check_of(limit: Limit) -> tuple[Check, str]:
    """What tells whether a value keeps to a limit, and the limit in words."""
    bound: Any = limit.value
    says = _SAYS[limit.name].format(bound)
    match limit.name:
        case "gt":
            return lambda value: value > bound, says
        case "ge":
            return lambda value: value >= bound, says
        case "lt":
            return lambda value: value < bound, says
        case "le":
            return lambda value: value <= bound, says
        case "multiple_of":
            return lambda value: _is_multiple(value, bound), says
        case "min_length" | "min_items":
            return lambda value: len(value) >= bound, says
        case "max_length" | "max_items":
            return lambda value: len(value) <= bound, says
        case "pattern":
            return matcher(bound), says
    raise AssertionError(limit.name)


def _is_multiple(value: Any, of: Any) -> bool:
    if isinstance(value, float) or isinstance(of, float):
        rest = float(value) % float(of)
        return min(rest, float(of) - rest) <= 1e-9 * max(1.0, abs(float(value)))
    return bool(value % of == 0)


@lru_cache(maxsize=1024)
def matcher(pattern: str) -> Check:
    """Whether a text has a match, in time that grows with its length alone: patterns and texts come from anybody.
    Raises ValueError, when first used, for a pattern that needs more than that (lookaround, back references)."""
    import cel  # only signatures with a pattern pay for it

    program = cel.compile("value.matches(pattern)")

    def matches(value: str) -> bool:
        if not value.isascii():
            value = value.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text to the matcher
        try:
            return bool(program.execute({"value": value, "pattern": pattern}))
        except (RuntimeError, ValueError, TypeError) as error:
            raise ValueError(str(error).partition("\n")[0]) from None

    return matches


def limits_text(limits: Iterable[Limit]) -> str:
    """The limits as DSPy's prompts say them."""
    return ", ".join(f"{WORDS[limit.name]}{limit.value}" for limit in limits if limit.name in WORDS)
