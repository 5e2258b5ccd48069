"""The fields a step can read."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_bus.context import MISSING, Context

FIELDS: dict[str, Any] = {
    "text": "hello",
    "parts": [{"text": "a"}, ["b", "c"]],
    "object": {"0": "zero", "a": {"b": 1}, "none": None},
    "zero": 0,
    "no": False,
    "empty": "",
    "nothing": None,
    "list": [],
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("text", "hello"),
        ("parts.0.text", "a"),
        ("parts.1.1", "c"),
        ("object.a.b", 1),
        ("object.0", "zero"),
        ("object.none", None),
        ("zero", 0),
        ("no", False),
        ("empty", ""),
        ("nothing", None),
        ("list", []),
        ("absent", MISSING),
        ("parts.2", MISSING),
        ("parts.-1", MISSING),
        ("parts.x", MISSING),
        ("parts.0.absent", MISSING),
        ("text.0", MISSING),
        ("nothing.a", MISSING),
        ("object.a.b.c", MISSING),
    ],
)
def test_path(path: str, value: Any) -> None:
    assert Context(FIELDS).get(path) is value if value is MISSING else Context(FIELDS).get(path) == value
    assert Context(base=Context(FIELDS)).get(path) == value


def test_a_layer_hides_what_is_below() -> None:
    below = Context({"a": {"b": 1}, "c": 2})
    above = Context({"a": None}, base=below)
    assert above.get("a") is None
    assert above.get("a.b") is MISSING
    assert above.get("c") == 2
    assert above.whole() == {"a": None, "c": 2}


def test_the_whole_is_a_copy() -> None:
    context = Context({"a": 1})
    context.whole()["b"] = 2
    assert context.whole() == {"a": 1}
