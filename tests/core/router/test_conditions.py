"""Conditions over a context: what they are, what they read, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_bus.conditions import ConditionError, goes_through_a_list, holds, names

MISSING = object()
CONTEXT: dict[str, Any] = {
    "n": 3,
    "score": 0.5,
    "text": "hello",
    "flag": False,
    "nothing": None,
    "parts": [{"k": 1}, {"k": 2}],
    "object": {"a": {"b": "c"}},
    "empty": [],
}


def value_of(name: str) -> Any:
    return CONTEXT.get(name, MISSING)


@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("n > 2", True),
        ("n > 3", False),
        ("score >= 0.5 && text == 'hello'", True),
        ("flag", False),
        ("!flag", True),
        ("nothing == null", True),
        ("size(parts) == 2", True),
        ("size(empty) > 0", False),
        ("object.a.b == 'c'", True),
        ("parts[1].k == 2", True),
        ("parts.exists(part, part.k == 2)", True),
        ("parts.all(part, part.k > 1)", False),
        ("text.startsWith('he')", True),
        ("'a' in object", True),
        ("true || absent", True),
    ],
)
def test_holds(text: str, true: bool) -> None:
    assert holds(text, value_of, MISSING) is true


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("absent", "absent"),
        ("absent > 1", "absent"),
        ("object.absent == 1", "absent"),
        ("n", "neither true nor false"),
        ("text", "neither true nor false"),
        ("n > 'a'", "cannot be evaluated"),
        ("n / 0 == 1", "cannot be evaluated"),
        ("parts[9].k == 1", "cannot be evaluated"),
    ],
)
def test_cannot_be_evaluated(text: str, told: str) -> None:
    with pytest.raises(ConditionError, match=told):
        holds(text, value_of, MISSING)


@pytest.mark.parametrize(
    "text", ["", "n >", "n = 1", "import os", "n > 1; n", "parts.map(p, p.k).map(k, k) == []", "n" * 2_001]
)
def test_is_no_condition(text: str) -> None:
    with pytest.raises(ConditionError):
        names(text)


@pytest.mark.parametrize(
    ("text", "read"),
    [("n > 2 && text == object.a", {"n", "text", "object"}), ("true", set()), ("size(parts) > n", {"parts", "n"})],
)
def test_names(text: str, read: set[str]) -> None:
    assert names(text) == read


def test_which_go_through_a_list() -> None:
    assert goes_through_a_list("parts.exists(part, part.k == 2)")
    assert not goes_through_a_list("size(parts) == 2")
