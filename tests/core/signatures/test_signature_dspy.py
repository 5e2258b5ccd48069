"""Our signatures as DSPy's and back, without loss."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from test_signature_parser import _fields

from dspex_bus.signatures import Field, Mismatch, Signature, SignatureError, coercer, parse_signature
from dspex_bus.signatures import types as t

dspy = pytest.importorskip("dspy")
import pydantic  # noqa: E402

from dspex_services.dspy.signatures import from_dspy, to_dspy  # noqa: E402


@given(_fields())
@settings(max_examples=150)
def test_the_way_to_dspy_and_back_loses_nothing(fields: list[Field]) -> None:
    signature = Signature(tuple(fields[:1]), tuple(_typed(fields[1:])), "Do it.")
    assert from_dspy(to_dspy(signature)).signature == signature


def _typed(fields: list[Field]) -> list[Field]:
    """DSPy does not tell an output without a type from one that is a str."""
    return [Field(f.name, f.type, f.description, True, f.default) for f in fields]


class Line(pydantic.BaseModel):  # type: ignore[misc]
    """One line."""

    sku: str = pydantic.Field(description="what", min_length=1)
    count: int = pydantic.Field(default=1, ge=1)
    sizes: list[Annotated[int, pydantic.Field(ge=0)]] = []


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Checked(pydantic.BaseModel):  # type: ignore[misc]
    a: int

    @pydantic.field_validator("a")
    @classmethod
    def odd(cls, value: int) -> int:
        return value


class Tree(pydantic.BaseModel):  # type: ignore[misc]
    inside: list[Tree] = []


class Ordering(dspy.Signature):  # type: ignore[misc]
    """Sort out an order.

    Carefully.
    """

    text: str = dspy.InputField()
    seen: list[Line] = dspy.InputField(desc="so far", default=[])
    top: int = dspy.InputField(desc="at most", ge=1, le=10, default=3)
    untyped = dspy.InputField()
    lines: list[Line] = dspy.OutputField(desc="all of them", min_length=1)
    when: dt.date | None = dspy.OutputField(default=None)
    kind: Literal["a", "b"] = dspy.OutputField()


def test_a_class_of_dspys() -> None:
    line = "Line{'One line.' sku: str[min_length=1] 'what', count: int[ge=1] = 1, sizes: list[int[ge=0]] = []}"
    made = from_dspy(Ordering)
    assert made.signature == parse_signature(
        f"text: str, seen: list[{line}] = [] 'so far', top: int[ge=1, le=10] = 3 'at most', untyped -> "
        f"lines: list[{line}][min_items=1] 'all of them', when: datetime.date | None = None, kind: Literal['a', 'b']",
        "Sort out an order.\n\nCarefully.",
    )
    assert made.types == {}
    again = to_dspy(made.signature)
    chat = dspy.ChatAdapter()
    inputs = {"text": "x", "seen": [], "top": 2, "untyped": ["a"]}
    assert chat.format(again, [], inputs) == chat.format(Ordering, [], inputs)
    assert again.input_fields["seen"].default == []


class Painting(dspy.Signature):  # type: ignore[misc]
    """Paint."""

    picture: dspy.Image = dspy.InputField()
    past: dspy.History = dspy.InputField()
    colour: Colour = dspy.OutputField()
    checked: list[Checked] = dspy.OutputField()
    tree: Tree = dspy.OutputField()


def test_types_with_code_of_their_own_keep_their_names_and_need_dspy() -> None:
    made = from_dspy(Painting)
    assert made.signature.foreign == ("dspy.Image", "dspy.History", "Colour", "Checked", "Tree")
    assert made.types == {"Colour": Colour, "Checked": Checked, "Tree": Tree}
    again = to_dspy(made.signature, made.types)
    for name, info in Painting.fields.items():
        assert again.fields[name].annotation == info.annotation


def test_two_classes_of_one_name_cannot_be_told_apart() -> None:
    other: Any = enum.Enum("Colour", ["GREEN"])
    signature = dspy.Signature({"a": (Colour, dspy.InputField()), "b": (other, dspy.OutputField())}, "Do.")
    with pytest.raises(SignatureError, match="two different types called 'Colour'"):
        from_dspy(signature)


def test_strings_of_dspys_are_ours() -> None:
    made = from_dspy(dspy.Signature("question, k: int -> answer: list[str]", "Do."))
    assert made.signature == parse_signature("question, k: int -> answer: list[str]", "Do.")


def test_a_default_arrives_in_dspy_as_a_value_of_its_type() -> None:
    signature = to_dspy(parse_signature("when: datetime.date = '2024-05-31', who: {name: str} = {'name': 'Ada'} -> a"))
    assert signature.input_fields["when"].default == dt.date(2024, 5, 31)
    assert signature.input_fields["who"].default.name == "Ada"
    assert t.literal({"a": [1, None, "it's"]}) == "{'a': [1, None, 'it\\'s']}"


def test_code_in_a_language_is_known_by_its_name() -> None:
    python, java = dspy.Code["python"], dspy.Code["java"]
    fields = {"code": (python, dspy.InputField()), "made": (list[java], dspy.OutputField())}
    found = from_dspy(dspy.Signature(fields, "Translate."))
    assert found.signature.text == 'code: dspy.Code["python"] -> made: list[dspy.Code["java"]]'
    assert found.types == {}
    again = to_dspy(found.signature)
    assert again.input_fields["code"].annotation.language == "python"
    assert from_dspy(again).signature == found.signature


def test_a_default_that_a_type_of_dspys_does_not_take_is_refused() -> None:
    with pytest.raises(SignatureError, match="the default of 'image' does not fit its type"):
        to_dspy(parse_signature("image: dspy.Image = 3 -> caption"))


TEXTS: dict[str, tuple[Any, list[str]]] = {
    "datetime.datetime": (
        dt.datetime,
        [
            "2024-07-03T04:05:06z",
            "2024-07-03 04:05",
            "2024-07-03_04:05:06,5+0100",
            "2024-07-03",
            "1720000000.5",
            ".5",
            "2024-07-03T05:06.000250Z",
            "2024-07-03T04:05:06\x00Z",
            "2024-07-03T04",
            " 2024-07-03",
            "1e3",
            "2024-W27-3",
        ],
    ),
    "datetime.date": (dt.date, ["2024-07-03", "2024-07-03T00:00", "86400", "2024-07-03\n", "2024-7-3", "1720000000"]),
    "datetime.time": (dt.time, ["04:05", "04:05:06.5z", "04:05+01:80", "04:05 ", "4:05", "3600"]),
    "datetime.timedelta": (
        dt.timedelta,
        [
            "1d",
            "-1 DAYS",
            "1 day, 2:03:04",
            "1d,02:03",
            "100:00",
            "01:02:03,5",
            "P1W",
            "P1Y2M",
            "PT5,5S",
            "-P1DT1.5H",
            "1:30",
            "23:60:00",
            "1,01:02",
            "p1d",
            "P",
            "PT",
            "",
            "5",
            "1 day, 203:04",
            "01:02:03.1234567",
        ],
    ),
    "uuid.UUID": (
        uuid.UUID,
        [
            f"{{{uuid.UUID(int=5)}}}",
            f"urn:uuid:{uuid.UUID(int=5)}",
            uuid.UUID(int=5).hex,
            str(uuid.UUID(int=10)).upper(),
            "0" * 8 + "--" + "0" * 23,
            f" {uuid.UUID(int=5)}",
            f"{{{uuid.UUID(int=5).hex}}}",
            "0" * 31,
        ],
    ),
    "int": (int, ["٣", "+5", "3.0", "3.", "1_000", "1__0", "-0", "3\n.0"]),
    "float": (float, ["٣", "1e3", ".5", "5.", "-inf", "1_000.5"]),
}


@pytest.mark.parametrize(
    ("name", "kind", "text"), [(name, kind, text) for name, (kind, texts) in TEXTS.items() for text in texts]
)
def test_texts_are_read_as_pydantic_reads_them(name: str, kind: Any, text: str) -> None:
    try:
        wanted = pydantic.TypeAdapter(kind).validate_python(text)
    except pydantic.ValidationError:
        with pytest.raises(Mismatch):
            coercer(t.SCALARS[name])(text)
    else:
        made = coercer(t.SCALARS[name])(text)
        assert (type(made), made) == (type(wanted), wanted)
        assert getattr(made, "tzinfo", None) is None or made.utcoffset() == wanted.utcoffset()


@pytest.mark.parametrize("value", [9.2e18, 2.0**63, -(2.0**63), 1e55, 10**30, 3.5])
def test_floats_are_whole_numbers_as_to_pydantic(value: float) -> None:
    try:
        wanted = pydantic.TypeAdapter(int).validate_python(value)
    except pydantic.ValidationError:
        with pytest.raises(Mismatch):
            coercer(t.SCALARS["int"])(value)
    else:
        assert coercer(t.SCALARS["int"])(value) == wanted


def test_half_a_surrogate_pair_is_no_text_that_matches() -> None:
    """And no error of the library that matches."""
    with pytest.raises(Mismatch, match="matches"):
        coercer(parse_signature("a: str[pattern='^x$'] -> b").inputs[0].type)("\ud83d")
