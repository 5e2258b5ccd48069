"""Our signatures as DSPy's, and DSPy's as ours. Strings are parsed by our parser alone: DSPy's imports the modules
that a string names."""

from __future__ import annotations

import enum
import typing
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

import annotated_types
import dspy
import pydantic
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dspex_bus.signatures import Field, Signature, SignatureError, annotation, made_of, parse_signature, type_of
from dspex_bus.signatures.names import CODE, DSPY_TYPES, is_language
from dspex_bus.signatures.reading import limited, meta_of, plain_default
from dspex_bus.signatures.types import Constrained, Foreign, Limit, Record, Type, literal

_UNDEFINED = "IS_TYPE_UNDEFINED"
_SIZES = {"min_items": "min_length", "max_items": "max_length"}
_LIMITS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern")


@lru_cache(maxsize=1024)
def dspy_signature(text: str, instructions: str | None) -> Any:
    """The ``dspy.Signature`` class for a signature's text. Raises SignatureError."""
    return to_dspy(parse_signature(text, instructions))


class Converted(NamedTuple):
    """A signature, and the classes of the types in it that have a name and no more, by that name."""

    signature: Signature
    types: Mapping[str, Any]


def to_dspy(signature: Signature, types: Mapping[str, Any] | None = None) -> Any:
    """The ``dspy.Signature`` class of a signature. ``types`` are the classes of the caller's own names."""
    made = _Annotations(types or {})
    fields = {field.name: (made.of_field(field), made.info(dspy.InputField, field)) for field in signature.inputs}
    fields |= {field.name: (made.of_field(field), made.info(dspy.OutputField, field)) for field in signature.outputs}
    return dspy.Signature(fields, signature.instructions)


class _Annotations:
    def __init__(self, types: Mapping[str, Any]) -> None:
        self._types = types
        self._models: dict[Record, Any] = {}

    def of(self, kind: Type) -> Any:
        return annotation(kind, self._special)

    def of_field(self, field: Field) -> Any:
        """Limits of the field itself are its FieldInfo's, where DSPy's prompt finds them."""
        return self.of(field.type.base if isinstance(field.type, Constrained) else field.type) if field.typed else str

    def info(self, make: Any, field: Field) -> Any:
        said: dict[str, Any] = {}
        if isinstance(field.type, Constrained):
            said |= {_SIZES.get(limit.name, limit.name): limit.value for limit in field.type.limits}
        if field.description is not None:
            said["desc"] = field.description
        if field.default is not None:
            said["default"] = self.default(field)
        if not field.typed and make is dspy.InputField:
            said[_UNDEFINED] = True
        return make(**said)

    def default(self, field: Field) -> Any:
        try:
            return pydantic.TypeAdapter(self.of(field.type)).validate_python(field.default_value)
        except pydantic.ValidationError as error:  # of a type of DSPy's, which nobody else can check
            why = error.errors()[0]["msg"]
            raise SignatureError(
                f"the default of {field.name!r} does not fit its type: {why}", text=str(field.type)
            ) from error

    def _special(self, kind: Foreign | Constrained | Record) -> Any:
        match kind:
            case Foreign(name=name):
                return self._types[name] if name in self._types else _of_dspy(name)
            case Constrained(base=base, limits=limits):
                return Annotated[(self.of(base), *map(_metadata, limits))]
            case Record():
                return self.model(kind)

    def model(self, record: Record) -> Any:
        """One class for one record, so that DSPy's schemas refer to it by its name."""
        found = self._models.get(record)
        if found is None:
            fields: dict[str, Any] = {field.name: self.member(field) for field in record.fields}
            found = pydantic.create_model(record.name, __doc__=record.description, **fields)
            self._models[record] = found
        return found

    def member(self, field: Field) -> tuple[Any, FieldInfo]:
        kind = field.type
        said: dict[str, Any] = {}
        if isinstance(kind, Constrained):
            said = {_SIZES.get(limit.name, limit.name): limit.value for limit in kind.limits}
            kind = kind.base
        if field.description is not None:
            said["description"] = field.description
        if field.default is not None:
            said["default"] = self.default(field)
        return self.of(kind), pydantic.Field(**said)


def _of_dspy(name: str) -> Any:
    """A type of DSPy's by its name; ``dspy.Code["python"]`` is code in one language."""
    word, _, language = name.removeprefix("dspy.").partition("[")
    found = getattr(dspy, word)
    return found[language.strip('"]')] if language else found


def _metadata(limit: Limit) -> Any:
    """By annotated_types where it can be: DSPy shows a model the type's repr."""
    value: Any = limit.value
    match limit.name:
        case "ge":
            return annotated_types.Ge(value)
        case "gt":
            return annotated_types.Gt(value)
        case "le":
            return annotated_types.Le(value)
        case "lt":
            return annotated_types.Lt(value)
        case "multiple_of":
            return annotated_types.MultipleOf(value)
        case "min_length" | "min_items":
            return annotated_types.MinLen(value)
        case "max_length" | "max_items":
            return annotated_types.MaxLen(value)
    return pydantic.StringConstraints(pattern=value)


# --- from DSPy ------------------------------------------------------------------------------------


def from_dspy(signature: Any) -> Converted:
    """A ``dspy.Signature`` class as ours. Types that have no form of ours (enumerations, DSPy's own, classes with code)
    keep their names, and only DSPy can handle the signature. Raises SignatureError for names that none of ours may
    have."""
    reader = _Reader()
    inputs = [reader.field(name, info) for name, info in signature.input_fields.items()]
    outputs = [reader.field(name, info) for name, info in signature.output_fields.items()]
    return Converted(made_of(inputs, outputs, signature.instructions), reader.types)


class _Reader:
    def __init__(self) -> None:
        self.types: dict[str, Any] = {}

    def field(self, name: str, info: FieldInfo) -> Field:
        extra: Any = info.json_schema_extra or {}
        said = extra.get("desc")
        typed = not extra.get(_UNDEFINED, False)
        kind = limited(self.kind_of(info.annotation), _constraints(info))
        description = None if said in (None, f"${{{name}}}") else said
        return Field(name, kind, description, typed, _default(info, name))

    def kind_of(self, kind: Any) -> Type:
        return type_of(kind, self._special, _said)

    def _special(self, kind: Any) -> Type | None:
        if not isinstance(kind, type) or typing.get_origin(kind) is not None:
            return None
        if kind.__name__ in DSPY_TYPES and getattr(dspy, kind.__name__) is kind:
            return Foreign(f"dspy.{kind.__name__}")
        if kind.__bases__ == (dspy.Code,) and is_language(language := str(getattr(kind, "language", ""))):
            return Foreign(f'{CODE}["{language}"]')
        if issubclass(kind, pydantic.BaseModel) and _is_plain(kind):
            return self._record(kind)
        if issubclass(kind, pydantic.BaseModel | enum.Enum):
            return self._named(kind)
        return None

    def _named(self, kind: type) -> Type:
        if self.types.setdefault(kind.__name__, kind) is not kind:
            raise SignatureError(f"there are two different types called {kind.__name__!r}", text=kind.__name__)
        return Foreign(kind.__name__)

    def _record(self, kind: type[pydantic.BaseModel]) -> Type:
        try:
            fields = tuple(self._member(name, info) for name, info in kind.model_fields.items())
        except RecursionError:
            return self._named(kind)
        return Record(kind.__name__, fields, (kind.__doc__ and str(kind.__doc__).strip()) or None)

    def _member(self, name: str, info: FieldInfo) -> Field:
        kind = limited(self.kind_of(info.annotation), _constraints(info))
        return Field(name, kind, info.description, True, _default(info, name))


def _is_plain(kind: type[pydantic.BaseModel]) -> bool:
    """Whether the model is fields and nothing else: no validators, no aliases, no configuration, no code of its own."""
    decorators = kind.__pydantic_decorators__
    coded = any(getattr(decorators, name) for name in type(decorators).__dataclass_fields__)
    odd = any(info.alias or info.exclude or info.discriminator for info in kind.model_fields.values())
    recursive = kind.__name__ in str(kind.model_json_schema().get("$defs", {}).keys())
    return not (coded or odd or recursive or kind.model_config or kind.__bases__ != (pydantic.BaseModel,))


def _default(info: FieldInfo, name: str) -> str | None:
    value = info.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return None
    made = value.model_dump(mode="json") if isinstance(value, pydantic.BaseModel) else plain_default(value, name)
    return literal(made)


def _constraints(info: FieldInfo) -> list[tuple[str, Any]]:
    return [pair for data in info.metadata for pair in _said(data).items()]


def _said(data: Any) -> dict[str, Any]:
    """What one piece of an annotation's metadata says of limits."""
    if isinstance(data, FieldInfo):
        said = dict(_constraints(data))
        return said | ({"description": data.description} if data.description else {})
    found = meta_of(data)
    return found or {name: value for name in _LIMITS if (value := getattr(data, name, None)) is not None}
