"""Conditions over a run's context: CEL, a language without loops, names of its own or effects."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import cel

_LONGEST = 2_000
_MACRO = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(")


class ConditionError(Exception):
    """Says what is wrong with a condition, or with evaluating it."""


@lru_cache(maxsize=4096)
def _program(text: str) -> cel.Program:
    if len(text) > _LONGEST:
        raise ConditionError(f"a condition may have {_LONGEST} characters; this one has {len(text)}")
    if len(_MACRO.findall(text)) > 1:
        # Nested, they would cost the product of their lists' lengths, and everybody's sessions wait meanwhile.
        raise ConditionError("a condition may go through one list (all, exists, exists_one, map, filter), not several")
    try:
        return cel.compile(text)
    except ValueError as error:
        raise ConditionError(f"{text!r} is no condition: {_first_line(error)}") from error


def names(text: str) -> frozenset[str]:
    """The context fields that a condition reads, and the names its macros bind. Raises ConditionError."""
    return frozenset(_program(text).variables())


def goes_through_a_list(text: str) -> bool:
    return _MACRO.search(text) is not None


def holds(text: str, value_of: Callable[[str], Any], missing: object) -> bool:
    """Whether the condition is true. ``value_of`` gives a field's value, or ``missing``. Raises ConditionError where it
    cannot be evaluated, or is neither true nor false."""
    program = _program(text)
    values = {name: value for name in program.variables() if (value := value_of(name)) is not missing}
    try:
        found = program.execute(values)
    except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise ConditionError(f"the condition {text!r} cannot be evaluated: {_first_line(error)}") from error
    if not isinstance(found, bool):
        raise ConditionError(f"the condition {text!r} is {found!r}: neither true nor false")
    return found


def _first_line(error: Exception) -> str:
    """KeyError quotes its text, and the parser draws a picture below it."""
    text = f"no key {error.args[0]!r}" if isinstance(error, KeyError) else str(error)
    return text.partition("\n")[0].rpartition("ERROR: ")[2]
