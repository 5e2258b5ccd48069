"""Limits, defaults and structs; signatures as classes, plain data and JSON Schema, and back."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import typing
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Required, TypedDict

import annotated_types
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_signature_parser import _fields

from dspex_bus.signatures import (
    Field,
    Input,
    InvalidFields,
    Output,
    Signature,
    SignatureError,
    from_class,
    from_json_schema,
    json_schema,
    parse_signature,
    parse_type,
    read_signature,
    to_data,
    type_from_schema,
    type_of,
)
from dspex_bus.signatures import types as t

ORDER = (
    "order: {'An order.' id: int, lines: list[{sku: str 'what', count: int[ge=1] = 1}], note: str | None = None} "
    "-> total: float[ge=0], late: bool = False, tags: list[str][max_items=2]"
)


def test_a_struct_is_called_after_its_field_and_its_name_stands_for_it() -> None:
    signature = parse_signature("shipping_address: {city: str}, other: ShippingAddress -> ok: bool")
    first, second = signature.inputs
    assert first.type == second.type
    assert str(first.type) == "ShippingAddress{city: str}"


def test_structs_without_names_get_different_ones() -> None:
    signature = parse_signature("a: list[{x: int}] -> b: {a: {x: str}}")
    assert str(signature.inputs[0].type) == "list[A{x: int}]"
    assert str(signature.outputs[0].type) == "B{a: A2{x: str}}"


def test_values_of_structs() -> None:
    signature = parse_signature(ORDER)
    values = signature.validate_inputs(
        {"order": {"id": "7", "lines": [{"sku": "a", "extra": 1}, {"sku": "b", "count": 3}]}}
    )
    assert values == {"order": {"id": 7, "lines": [{"sku": "a", "count": 1}, {"sku": "b", "count": 3}], "note": None}}


@pytest.mark.parametrize(
    ("order", "fault"),
    [
        ({"id": 1}, "Order with 'lines'"),
        ({"id": 1, "lines": [{"sku": "a", "count": 0}]}, "at ['lines'][0]['count'] expected at least 1, got 0"),
        ({"id": "x", "lines": []}, "at ['id'] expected int"),
        ([], "expected Order, an object, got []"),
    ],
)
def test_faults_inside_structs_are_placed(order: Any, fault: str) -> None:
    with pytest.raises(InvalidFields) as caught:
        parse_signature(ORDER).validate_inputs({"order": order})
    assert fault in caught.value.faults["order"]


def test_left_out_fields_get_their_defaults_even_falsy_ones() -> None:
    signature = parse_signature(
        "a: int = 0, b: list[int] = [], c = '', d: bool | None -> e: bool = False, f: str | None"
    )
    assert signature.validate_inputs({}) == {"a": 0, "b": [], "c": ""}
    assert signature.coerce_outputs({}) == {"e": False, "f": None}
    assert signature.validate_inputs({})["b"] is not signature.validate_inputs({})["b"], "each gets its own list"
    assert signature.input_schema()["required"] == []


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("int[ge=0, le=10]", [0, 10, "5"], [-1, 11]),
        ("float[gt=0, lt=1]", [0.5], [0, 1]),
        ("int[multiple_of=5]", [0, 15], [7]),
        ("float[multiple_of=0.1]", [0.3, 1.0], [0.25]),
        ("str[min_length=2, max_length=3]", ["ab", "abc"], ["a", "abcd"]),
        ("str[pattern='^[a-z]+$']", ["abc"], ["aBc", ""]),
        ("list[int][min_items=1, max_items=2]", [[1], [1, 2]], [[], [1, 2, 3]]),
        ("dict[str, int][max_items=1]", [{}, {"a": 1}], [{"a": 1, "b": 2}]),
        ("list[int[ge=0]]", [[0]], [[0, -1]]),
        ("int[ge=0] | None", [None, 0], [-1]),
        ("int[ge=0] | str", [3, "x"], [-1]),
    ],
)
def test_limits(kind: str, good: list[Any], bad: list[Any]) -> None:
    signature = parse_signature(f"a: {kind} -> b")
    for value in good:
        signature.validate_inputs({"a": value})
    for value in bad:
        with pytest.raises(InvalidFields):
            signature.validate_inputs({"a": value})


def test_a_pattern_from_anybody_takes_no_time_that_matters() -> None:
    signature = parse_signature("a: str[pattern='^(a+)+$'] -> b")
    with pytest.raises(InvalidFields, match="matches"):
        signature.validate_inputs({"a": "a" * 5000 + "!"})


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        ("int[ge=1, lt=5]", {"type": "integer", "exclusiveMaximum": 5, "minimum": 1}),
        (
            "dict[str, int][max_items=3]",
            {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 3},
        ),
        (
            "Point{'Where.' x: int = 0, y: float | None}",
            {
                "type": "object",
                "description": "Where.",
                "properties": {
                    "x": {"type": "integer", "default": 0, "title": "X"},
                    "y": {"anyOf": [{"type": "number"}, {"type": "null"}], "title": "Y"},
                },
                "required": ["y"],
                "title": "Point",
            },
        ),
    ],
)
def test_schemas(text: str, schema: dict[str, Any]) -> None:
    assert json_schema(parse_type(text)) == schema


# --- classes --------------------------------------------------------------------------------------


class Line(msgspec.Struct):
    """One line."""

    sku: Annotated[str, msgspec.Meta(description="what")]
    count: Annotated[int, msgspec.Meta(ge=1)] = 1


@dataclasses.dataclass
class Place:
    city: str
    tags: list[str] = dataclasses.field(default_factory=list)


class Answering:
    """Answer in one sentence.

    And briefly.
    """

    question: Input[str]
    lines: Input[list[Line]]
    place: Input[Place | None] = None
    when: Input[dt.date] = dt.date(2024, 5, 31)
    answer: Output[Annotated[str, msgspec.Meta(min_length=2, description="a whole sentence")]]
    kind: Output[Literal["a", "b"]] = "a"


def test_a_class() -> None:
    assert from_class(Answering) == parse_signature(
        "question: str, lines: list[Line{'One line.' sku: str 'what', count: int[ge=1] = 1}], "
        "place: Place{city: str, tags: list[str] = []} | None = None, when: datetime.date = '2024-05-31' -> "
        "answer: str[min_length=2] 'a whole sentence', kind: Literal['a', 'b'] = 'a'",
        "Answer in one sentence.\n\nAnd briefly.",
    )


def test_a_class_without_a_docstring_gets_the_usual_instructions() -> None:
    class Plain:
        a: Input[str]
        b: Output[int]

    assert from_class(Plain).instructions == "Given the fields `a`, produce the fields `b`."


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Seen(TypedDict):
    where: str
    when: NotRequired[int]


class Hints(TypedDict, total=False):
    kind: Required[str]
    size: Annotated[int, msgspec.Meta(ge=1, description="in pages")]


class Chain(msgspec.Struct):
    inside: Chain | None = None


@dataclasses.dataclass
class Left:
    right: Right


class Right(msgspec.Struct):
    lefts: list[Left]


class Unmarked:
    a: Input[str]
    b: int


class Unknown:
    a: Input[complex]
    b: Output[str]


class WrongDefault:
    a: Input[int] = "x"  # type: ignore[assignment]
    b: Output[str]


class Within:
    a: Input[Chain]
    b: Output[str]


class WithinEachOther:
    a: Input[list[Left]]
    b: Output[str]


class Point(NamedTuple):
    x: int


class WithPoint:
    a: Input[Point]
    b: Output[str]


class OneSided:
    a: Input[int]


@pytest.mark.parametrize(
    ("cls", "reason"),
    [
        (Unmarked, "neither Input"),
        (Unknown, "no form in a signature"),
        (WrongDefault, "does not fit its type"),
        (OneSided, "at least one output"),
        (Within, "Chain contains itself"),
        (WithinEachOther, "Left contains itself"),
        (WithPoint, "a msgspec Struct or a dataclass"),
    ],
)
def test_classes_that_are_no_signatures(cls: type, reason: str) -> None:
    with pytest.raises(SignatureError, match=reason):
        from_class(cls)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int | None, "int | None"),
        (tuple[int, ...], "tuple[int, ...]"),
        (tuple[int, str], "tuple[int, str]"),
        (dict[str, list[bool]], "dict[str, list[bool]]"),
        (Annotated[list[int], msgspec.Meta(max_length=3)], "list[int][max_items=3]"),
        (set, "set"),
        (typing.List, "list"),  # noqa: UP006
        (typing.Tuple, "tuple"),  # noqa: UP006
        (typing.Dict, "dict"),  # noqa: UP006
        (Colour, "Literal['red', 'blue']"),
        (Seen, "Seen{where: str, when: int | None = None}"),
        (Hints, "Hints{kind: str, size: int[ge=1] | None = None 'in pages'}"),
        (Annotated[int, annotated_types.Ge(3), annotated_types.Lt(9)], "int[ge=3, lt=9]"),
        (Annotated[list[str], annotated_types.Len(1, 4)], "list[str][min_items=1, max_items=4]"),
        (Any, "Any"),
    ],
)
def test_annotations(kind: Any, text: str) -> None:
    assert str(type_of(kind)) == text


# --- plain data and JSON Schema -------------------------------------------------------------------


def test_plain_data_says_as_much_as_it_likes() -> None:
    written = {
        "inputs": {"question": {}, "k": {"type": "int[ge=1]", "description": "how many", "default": 3}},
        "outputs": {"answer": "str"},
    }
    assert read_signature(written, "Do.") == parse_signature(
        "question, k: int[ge=1] = 3 'how many' -> answer: str", "Do."
    )


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (3, "a signature is a text"),
        ({"inputs": {}}, "needs 'inputs' and 'outputs'"),
        ({"inputs": {"a": "str"}, "outputs": {"b": "str"}, "input": 1}, "has no 'input'"),
        ({"inputs": ["a"], "outputs": {"b": "str"}}, "from names to types"),
        ({"inputs": {"a": "strng"}, "outputs": {"b": "str"}}, "unknown type 'strng'"),
        ({"inputs": {"a": {"typ": "str"}}, "outputs": {"b": "str"}}, "takes 'type'"),
        ({"inputs": {"a": {"type": "int", "default": "x"}}, "outputs": {"b": "str"}}, "default of 'a'"),
        ({"inputs": {"a": "str"}, "outputs": {"a": "str"}}, "given twice"),
        ({"inputs": {"class": "str"}, "outputs": {"a": "str"}}, "keyword"),
        ({"inputs": {}, "outputs": {"a": "str"}}, "at least one input"),
    ],
)
def test_data_that_is_no_signature(written: Any, reason: str) -> None:
    with pytest.raises(SignatureError, match=reason):
        read_signature(written)


@given(_fields())
@settings(max_examples=100)
def test_data_of_a_signature_is_the_signature(fields: list[Field]) -> None:
    signature = Signature(tuple(fields[:1]), tuple(fields[1:]), "Do it.")
    assert read_signature(to_data(signature)) == signature
    assert read_signature(msgspec.json.decode(msgspec.json.encode(to_data(signature)))) == signature


@given(_fields())
@settings(max_examples=200)
def test_a_schema_says_the_same_after_the_way_through_a_type(fields: list[Field]) -> None:
    for field in fields:
        if t.foreign_names(field.type):
            continue
        schema = json_schema(field.type)
        assert unordered(json_schema(type_from_schema(schema))) == unordered(schema)


def unordered(schema: Any) -> Any:
    """Without the order of required fields, which a schema sorted by name does not tell."""
    if isinstance(schema, dict):
        return {key: sorted(part) if key == "required" else unordered(part) for key, part in schema.items()}
    return [unordered(part) for part in schema] if isinstance(schema, list) else schema


def test_json_schemas_of_two_objects_are_a_signature() -> None:
    signature = parse_signature(ORDER, "Add up.")
    made = from_json_schema(signature.input_schema(), signature.output_schema(), "Add up.")
    assert made == signature
    assert read_signature({"inputs": signature.input_schema(), "outputs": signature.output_schema()}, "Add up.") == made


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": ["string", "null"]}, "str | None"),
        ({"oneOf": [{"type": "integer"}, {"type": "boolean"}]}, "int | bool"),
        (
            {"type": "object", "title": "my thing", "properties": {"a": {"type": "string"}}},
            "MyThing{a: str | None = None}",
        ),
        ({"type": "string", "format": "date"}, "datetime.date"),
        ({"type": "string", "format": "email"}, "str"),
        (True, "Any"),
        ({"allOf": [{"type": "integer"}, {"minimum": 3}]}, "int[ge=3]"),
        ({"allOf": [{"$ref": "#/$defs/A"}], "description": "x", "$defs": {"A": {"type": "integer"}}}, "int"),
        ({"$ref": "#/definitions/A", "minimum": 1, "definitions": {"A": {"type": "integer"}}}, "int[ge=1]"),
        (
            {
                "allOf": [{"$ref": "#/$defs/A"}, {"properties": {"b": {"type": "string"}}, "required": ["b"]}],
                "title": "Both",
                "$defs": {"A": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}},
            },
            "Both{a: int, b: str}",
        ),
    ],
)
def test_schemas_as_others_write_them(schema: Any, text: str) -> None:
    assert str(type_from_schema(schema)) == text


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "strng"}, "no type 'strng'"),
        ({"$ref": "#/$defs/A"}, "refers to nothing"),
        (
            {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}}}},
            "contains itself",
        ),
        ([], "no JSON Schema"),
        ({"allOf": [{"type": "integer"}, {"type": "string"}]}, "different things of 'type'"),
        ({"allOf": [{"properties": {"a": {}}}, {"properties": {"a": True}}]}, "different things of 'a'"),
        ({"allOf": [3]}, "allOf is a list of schemas"),
        ({"allOf": [{"$ref": "#/$defs/A"}, {}], "$defs": {"A": {"allOf": [{"$ref": "#/$defs/A"}]}}}, "contains itself"),
        ({"type": "string", "not": {"const": "x"}}, "no type says 'not'"),
        ({"type": "object", "patternProperties": {"^a": {}}}, "no type says 'patternProperties'"),
        ({"type": "string", "minLength": -1}, "whole number"),
        ({"type": []}, "type is a list with something in it"),
        ({"type": {}}, "no type {}"),
        ({"anyOf": []}, "anyOf is a list with something in it"),
        ({"enum": "ab"}, "enum is a list with something in it"),
        ({"enum": [1.5]}, "a choice is of texts"),
        ({"const": {}}, "a choice is of texts"),
        ({"type": "array", "prefixItems": {}}, "prefixItems is a list"),
        ({"type": "object", "properties": [1]}, "properties are an object"),
        ({"type": "object", "properties": {"a": {}}, "required": None}, "required is a list"),
        ({"type": "object", "properties": {"a": {"description": 5}}}, "a description is a text"),
        ({"type": "object", "propertyNames": [1], "additionalProperties": {}}, "propertyNames is a schema"),
        ({"$ref": "#/$defs/A", "$defs": [1]}, r"\$defs is an object"),
    ],
)
def test_schemas_that_have_no_type(schema: Any, reason: str) -> None:
    with pytest.raises(SignatureError, match=reason):
        type_from_schema(schema)


_WORDS = ["type", "properties", "items", "required", "enum", "const", "anyOf", "prefixItems", "additionalProperties"]
_WORDS += [
    "allOf",
    "not",
    "definitions",
    "$ref",
    "$defs",
    "title",
    "description",
    "default",
    "format",
    "minimum",
    "pattern",
    "propertyNames",
]
_VALUES = ["string", "integer", "number", "object", "array", "null", "#/$defs/A", "date", "(", "A", "class", "", "a b"]
_ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.just(1.5) | st.sampled_from(_VALUES),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from([*_WORDS, "A", "a"]), part, max_size=4),
    max_leaves=12,
)


@given(_ANY_JSON, _ANY_JSON)
@settings(max_examples=400)
def test_whatever_comes_as_a_schema_is_read_or_refused(one: Any, other: Any) -> None:
    for form in ({"inputs": {"a": one}, "outputs": {"b": other}}, {"inputs": one, "outputs": other}):
        try:
            found = read_signature(form)
        except SignatureError:
            continue
        assert read_signature(to_data(found)) == found
        found.input_schema()


def test_instructions_are_a_text() -> None:
    with pytest.raises(SignatureError, match="instructions are a text"):
        read_signature({"inputs": {"a": "str"}, "outputs": {"b": "str"}, "instructions": 5})
