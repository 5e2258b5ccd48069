"""Values against a signature: conversion both ways, errors that name field and reason, JSON Schemas."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from typing import Any

import jsonschema
import pytest

from dspex_bus.signatures import InvalidFields, Mismatch, coercer, parse_signature
from dspex_bus.wire import error_from, error_info

FITS: list[tuple[str, Any, Any]] = [
    ("str", "", ""),
    ("int", 0, 0),
    ("int", " 1_000 ", 1000),
    ("int", "3.0", 3),
    ("int", 3.0, 3),
    ("int", True, 1),
    ("float", 0, 0.0),
    ("float", "1e3", 1000.0),
    ("bool", False, False),
    ("bool", "No", False),
    ("bool", 1, True),
    ("bool", 0.0, False),
    ("Any", None, None),
    ("list", [], []),
    ("list[int]", ["1", 2.0], [1, 2]),
    ("set[int]", [1, "1"], {1}),
    ("tuple[int, str]", [1, "a"], (1, "a")),
    ("tuple[int, ...]", [], ()),
    ("frozenset[str]", ["a"], frozenset({"a"})),
    ("dict", {}, {}),
    ("dict[int, list[bool]]", {"1": ["yes"]}, {1: [True]}),
    ("int | None", None, None),
    ("int | str", "3", "3"),
    ("str | int", 3, 3),
    ("float | int", 3, 3),
    ("float | str", 3, 3.0),
    ("int | float", "2.5", 2.5),
    ("list[int] | list[str]", ["1"], ["1"]),
    ("Literal['x', 1]", 1, 1),
    ("Literal[1, True]", True, True),
    ("datetime.date", "2024-05-31", dt.date(2024, 5, 31)),
    ("datetime.date", "2024-05-31T00:00:00", dt.date(2024, 5, 31)),
    ("datetime.datetime", "2024-05-31 12:30", dt.datetime(2024, 5, 31, 12, 30)),
    ("datetime.datetime", 0, dt.datetime(1970, 1, 1, tzinfo=dt.UTC)),
    ("datetime.datetime", 1_717_158_600_000, dt.datetime(2024, 5, 31, 12, 30, tzinfo=dt.UTC)),
    ("datetime.time", "12:30", dt.time(12, 30)),
    ("datetime.timedelta", "PT1H30M", dt.timedelta(minutes=90)),
    ("datetime.timedelta", "-1 day, 2:00:00", -dt.timedelta(days=1, hours=2)),
    ("datetime.timedelta", 1.5, dt.timedelta(seconds=1.5)),
    ("decimal.Decimal", "1.50", decimal.Decimal("1.50")),
    ("decimal.Decimal", 0.1, decimal.Decimal("0.1")),
    ("uuid.UUID", "00000000-0000-0000-0000-000000000005", uuid.UUID(int=5)),
]


def _kind(text: str) -> Any:
    return parse_signature(f"q -> a: {text}").outputs[0].type


@pytest.mark.parametrize(("kind", "value", "expected"), FITS)
def test_converts(kind: str, value: Any, expected: Any) -> None:
    got = coercer(_kind(kind))(value)
    assert got == expected
    assert type(got) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("str", 3, "expected str, got 3 (int)"),
        ("int", "x", "expected int, got 'x' (str)"),
        ("int", 3.5, "expected int"),
        ("int", "3.5", "expected int"),
        ("int", "3.", "expected int"),
        ("int", None, "expected int, got None"),
        ("int", [], "expected int, got []"),
        ("bool", 2, "expected bool"),
        ("bool", "maybe", "expected bool"),
        ("bool", 0.5, "expected bool"),
        ("float", "much", "expected float"),
        ("float", 10**400, "expected float"),
        ("list[int]", "[1]", "expected list[int]"),
        ("list[list[int]]", [[1], [2, "x"]], "at [1][1] expected int, got 'x' (str)"),
        ("dict[str, int]", {"a": {}}, "at ['a'] expected int, got {} (dict)"),
        ("dict[str, int]", [], "expected dict[str, int]"),
        ("dict", [], "expected dict"),
        ("tuple[int, str]", [1], "2 items"),
        ("tuple[int, str]", [1, 2], "at [1] expected str"),
        ("tuple[int, str]", "ab", "expected tuple[int, str]"),
        ("set", [[1]], "that have a hash"),
        ("int | None", "x", "expected int | None"),
        ("Literal['x', 1]", "1", "expected Literal['x', 1], got '1' (str)"),
        ("Literal['x']", [], "expected Literal['x']"),
        ("datetime.date", "31.5.2024", "expected a date (2024-05-31)"),
        ("datetime.date", "2024-05-31T10:00:00", "expected a date"),
        ("datetime.date", "20240531", "expected a date"),
        ("datetime.date", True, "expected a date"),
        ("datetime.datetime", "2024-13-01T00:00:00", "expected a date and time"),
        ("datetime.datetime", 1e300, "expected a date and time"),
        ("datetime.time", "noon", "expected a time"),
        ("datetime.time", 86_400, "expected a time"),
        ("datetime.timedelta", "soon", "expected a duration"),
        ("decimal.Decimal", "NaN", "expected a decimal number"),
        ("uuid.UUID", 5, "expected a UUID"),
        ("str", 7 * "long " * 40, None),
    ],
)
def test_refuses_with_the_place_and_the_reason(kind: str, value: Any, reason: str | None) -> None:
    if reason is None:
        assert coercer(_kind(kind))(value) == value
        return
    with pytest.raises(Mismatch) as caught:
        coercer(_kind(kind))(value)
    assert reason in str(caught.value)


def test_a_shown_value_is_cut() -> None:
    with pytest.raises(Mismatch) as caught:
        coercer(_kind("int"))("x" * 10_000)
    assert len(str(caught.value)) < 120


def test_every_fault_is_named_at_once() -> None:
    signature = parse_signature("count: int, tags: list[str], when: datetime.date -> answer")
    with pytest.raises(InvalidFields) as caught:
        signature.validate_inputs({"count": "many", "tags": ["a", 1], "whn": "2024-01-01"})
    error = caught.value
    assert error.missing == ("when",)
    assert error.faults == {
        "count": "expected int, got 'many' (str)",
        "tags": "at [1] expected str, got 1 (int)",
        "whn": "the signature has no such field; did you mean 'when'?",
    }
    assert "`when` is missing" in error.message
    assert "`count`: expected int" in error.message
    back = error_from(error_info(error))
    assert isinstance(back, InvalidFields)
    assert (back.faults, back.missing) == (error.faults, error.missing)


@pytest.mark.parametrize("value", [False, 0, 0.0, "", [], {}, None])
def test_falsy_values_are_values(value: Any) -> None:
    signature = parse_signature("a, b: Any -> c: Any")
    assert signature.validate_inputs({"a": value, "b": value}) == {"a": value, "b": value}
    assert signature.coerce_outputs({"c": value}) == {"c": value}


def test_an_input_without_a_type_takes_any_value_and_one_with_str_does_not() -> None:
    assert parse_signature("context -> a").validate_inputs({"context": ["p1", "p2"]}) == {"context": ["p1", "p2"]}
    with pytest.raises(InvalidFields, match=r"`context`: expected str, got \['p1'\] \(list\)"):
        parse_signature("context: str -> a").validate_inputs({"context": ["p1"]})


def test_optional_fields_may_be_left_out() -> None:
    signature = parse_signature("a: int | None, b -> c: str | None, d: Optional[int]")
    assert signature.validate_inputs({"b": "x"}) == {"b": "x"}
    assert signature.coerce_outputs({"d": "3"}) == {"c": None, "d": 3}


def test_schemas() -> None:
    signature = parse_signature("q, n: int | None 'how many' -> tags: list[Literal['x', 'y']], p: tuple[int, str]")
    assert signature.input_schema() == {
        "type": "object",
        "properties": {"q": {}, "n": {"anyOf": [{"type": "integer"}, {"type": "null"}], "description": "how many"}},
        "required": ["q"],
        "additionalProperties": False,
    }
    assert signature.output_schema()["required"] == ["tags", "p"]
    validator = jsonschema.Draft202012Validator(signature.output_schema())
    assert validator.is_valid({"tags": ["x"], "p": [1, "a"]})
    assert not validator.is_valid({"tags": ["z"], "p": [1, "a"]})
    assert not validator.is_valid({"tags": [], "p": [1]})
