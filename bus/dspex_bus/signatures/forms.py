"""Signatures as classes, as plain data and as JSON Schema, and back.

class Answering:
    \"\"\"Answer in one sentence.\"\"\"

    question: Input[str]
    passages: Input[list[str]] = []
    answer: Output[Annotated[str, msgspec.Meta(min_length=2, description="a whole sentence")]]

from_class(Answering)
read_signature({"inputs": {"question": "str"}, "outputs": {"answer": {"type": "str", "description": "…"}}})
from_json_schema(inputs, outputs)
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec

from .errors import SignatureError
from .json_types import definitions_of, described, required_of, type_from_schema, unreadable
from .parser import parse_type
from .reading import Metadata, Special, description_of, meta_of, no_special, own_doc, plain_default, type_of
from .signature import Signature, made_of, parse_signature, parse_with
from .types import NONE, STR, Field, Foreign, literal, union, walk
from .values import Mismatch, coercer

T = TypeVar("T")


class _Side(msgspec.Struct, frozen=True):
    name: str


Input = Annotated[T, _Side("input")]
Output = Annotated[T, _Side("output")]


def from_class(cls: type, special: Special = no_special, metadata: Metadata = meta_of) -> Signature:
    """The signature of a class whose annotations are ``Input[…]`` and ``Output[…]``; its docstring is the instructions,
    its attributes are defaults. Raises SignatureError."""
    sides: dict[str, list[Field]] = {"input": [], "output": []}
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        side = _side(hint, name, cls)
        kind = type_of(hint, special, lambda data: {} if isinstance(data, _Side) else metadata(data))
        default = None
        if name in cls.__dict__:
            default = _default(kind, plain_default(cls.__dict__[name], name), name)
        sides[side].append(Field(name, kind, description_of(hint, metadata), True, default))
    return _checked(sides["input"], sides["output"], own_doc(cls))


def _side(hint: Any, name: str, cls: type) -> str:
    arguments = typing.get_args(hint) if typing.get_origin(hint) is Annotated else ()
    for data in arguments:
        if isinstance(data, _Side):
            return data.name
    raise SignatureError(f"the field {name!r} of {cls.__name__} is neither Input[…] nor Output[…]", text=name)


def signature_of(form: Signature | str | Mapping[str, Any] | type, instructions: str | None = None) -> Signature:
    """A signature from any of its forms: a text, a class, plain data. Raises SignatureError."""
    if isinstance(form, Signature):
        return form
    return from_class(form) if isinstance(form, type) else read_signature(form, instructions)


def read_signature(value: Any, instructions: str | None = None) -> Signature:
    """A signature in any form that travels: a string, or an object with ``inputs``, ``outputs`` and ``instructions``.

    A side is an object from names to types, or to objects with ``type``, ``description`` and ``default``; or it is the
    JSON Schema of an object. Raises SignatureError."""
    if isinstance(value, str):
        return parse_signature(value, instructions)
    if not isinstance(value, Mapping):
        raise SignatureError(
            "a signature is a text, or an object with 'inputs' and 'outputs'", text=repr(value), suggestion=_EXAMPLE
        )
    unknown = value.keys() - {"inputs", "outputs", "instructions"}
    if unknown or not {"inputs", "outputs"} <= value.keys():
        wrong = f"has no {sorted(unknown)[0]!r}" if unknown else "needs 'inputs' and 'outputs'"
        raise SignatureError(f"a signature {wrong}", text=repr(dict(value)), suggestion=_EXAMPLE)
    inputs, outputs = _fields(value["inputs"], "inputs"), _fields(value["outputs"], "outputs")
    said = instructions or value.get("instructions")
    if said is not None and not isinstance(said, str):
        raise SignatureError("the instructions are a text", text=repr(said))
    return _checked(inputs, outputs, said)


_EXAMPLE = "for example: question -> answer"


def _fields(side: Any, what: str) -> list[Field]:
    if not isinstance(side, Mapping):
        raise SignatureError(f"the {what} are an object from names to types", text=repr(side))
    if side.get("type") == "object" and isinstance(side.get("properties"), Mapping):
        return _from_object_schema(side)
    return [_field(name, said) for name, said in side.items()]


def _field(name: str, said: Any) -> Field:
    if isinstance(said, str):
        said = {"type": said}
    if not isinstance(said, Mapping) or said.keys() - {"type", "description", "default"}:
        raise SignatureError(f"the field {name!r} takes 'type', 'description' and 'default'", text=repr(said))
    written = said.get("type")
    kind = STR if written is None else parse_type(written) if isinstance(written, str) else type_from_schema(written)
    default = _default(kind, said["default"], name) if "default" in said else None
    return Field(name, kind, described(said), written is not None, default)


def to_data(signature: Signature) -> dict[str, Any]:
    """The signature as plain data: ``read_signature(to_data(s)) == s``."""

    def side(fields: Sequence[Field]) -> dict[str, Any]:
        return {field.name: _said(field) for field in fields}

    return {
        "inputs": side(signature.inputs),
        "outputs": side(signature.outputs),
        "instructions": signature.instructions,
    }


def _said(field: Field) -> dict[str, Any]:
    said: dict[str, Any] = {"type": str(field.type)} if field.typed else {}
    if field.description is not None:
        said["description"] = field.description
    return said if field.default is None else {**said, "default": field.default_value}


def from_json_schema(
    inputs: Mapping[str, Any], outputs: Mapping[str, Any], instructions: str | None = None
) -> Signature:
    """The signature whose sides are the properties of two JSON Schemas of objects. Raises SignatureError."""
    return _checked(_from_object_schema(inputs), _from_object_schema(outputs), instructions)


def _from_object_schema(schema: Mapping[str, Any]) -> list[Field]:
    definitions = definitions_of(schema)
    if not isinstance(schema.get("properties"), Mapping):
        raise unreadable("one side of a signature is an object with properties", schema)
    required = required_of(schema)
    fields = []
    for name, said in schema["properties"].items():
        kind = type_from_schema(said, definitions, name)
        given = isinstance(said, Mapping) and "default" in said
        default = _default(kind, said["default"], name) if given else None
        field = Field(name, kind, described(said), True, default)
        if name not in required and not field.optional:
            field = msgspec.structs.replace(field, type=union([kind, NONE]))
        fields.append(field)
    return fields


def _default(kind: Any, value: Any, name: str) -> str:
    try:
        coercer(kind)(value)
    except Mismatch as error:
        raise SignatureError(f"the default of {name!r} does not fit its type: {error}", text=repr(value)) from None
    return literal(value)


def _checked(inputs: Sequence[Field], outputs: Sequence[Field], instructions: str | None) -> Signature:
    """The signature, once its text has been read back: names and types go through the one parser's rules."""
    made = made_of(inputs, outputs, inspect.cleandoc(instructions) if instructions else None)
    named = [part for field in (*inputs, *outputs) for part in walk(field.type) if isinstance(part, Foreign)]
    parse_with(made.text, None, {part.name: part for part in named})
    return made
