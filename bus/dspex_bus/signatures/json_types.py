"""JSON Schema as types."""

from __future__ import annotations

import inspect
from collections.abc import Mapping as MappingABC
from typing import Any

from .errors import SignatureError
from .reading import limited
from .types import ANY, NONE, SCALARS, STR, Array, Field, FixedTuple, Mapping, Record, Type, choice, literal, union

_SIMPLE: dict[str, Type] = {
    "string": STR,
    "integer": SCALARS["int"],
    "number": SCALARS["float"],
    "boolean": SCALARS["bool"],
    "null": NONE,
}
_FORMATS = {
    "date": "datetime.date",
    "date-time": "datetime.datetime",
    "time": "datetime.time",
    "duration": "datetime.timedelta",
    "uuid": "uuid.UUID",
}
_LIMITS = {
    "minimum": "ge",
    "exclusiveMinimum": "gt",
    "maximum": "le",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
    "minLength": "min_length",
    "maxLength": "max_length",
    "pattern": "pattern",
    "minItems": "min_items",
    "maxItems": "max_items",
    "minProperties": "min_items",
    "maxProperties": "max_items",
}

_BEYOND = frozenset(
    {"not", "if", "patternProperties", "dependentSchemas", "dependentRequired", "dependencies", "contains"}
    | {"$dynamicRef", "$recursiveRef"}
)
"""Keywords that no type can say. Formats and annotations are not among them: they hold values to nothing."""

_SAYS_NOTHING = frozenset(
    {"$ref", "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment"}
    | {"$defs", "definitions", "$schema", "$id"}
)
"""Keywords that hold no value to anything."""

Definitions = MappingABC[str, Any]


def type_from_schema(schema: Any, definitions: Definitions | None = None, name: str = "Record") -> Type:
    """The type whose values a JSON Schema describes; ``name`` is for objects without a title. Raises SignatureError for
    schemas that say more than a type can."""
    return _Reader(definitions or definitions_of(schema)).read(schema, name)


def definitions_of(schema: Any) -> Definitions:
    """Under ``$defs``, or under ``definitions`` as in older drafts."""
    if not isinstance(schema, MappingABC):
        return {}
    found = {name: schema.get(name, {}) for name in ("$defs", "definitions")}
    for name, said in found.items():
        if not isinstance(said, MappingABC):
            raise unreadable(f"{name} is an object", said)
    return {**found["definitions"], **found["$defs"]}


def described(schema: Any) -> str | None:
    """What a schema says of itself."""
    said = schema.get("description") if isinstance(schema, MappingABC) else None
    if said is not None and not isinstance(said, str):
        raise unreadable("a description is a text", said)
    return said or None


def required_of(schema: MappingABC[str, Any]) -> list[Any]:
    return _list(schema, "required") if "required" in schema else []


class _Reader:
    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._open: list[str] = []

    def read(self, schema: Any, name: str) -> Type:
        if schema is True:
            return ANY
        if not isinstance(schema, MappingABC):
            raise unreadable("it is no JSON Schema", schema)
        for keyword in schema:
            if keyword in _BEYOND:
                raise unreadable(f"no type says {keyword!r}", schema)
        reference = _alone(schema)
        if reference is not None:
            return self._referred(reference, name)
        if "allOf" in schema or "$ref" in schema:
            return self.read(self._together(schema), name)
        for several in ("anyOf", "oneOf"):
            if several in schema:
                return union([self.read(part, name) for part in _list(schema, several, least=1)])
        if "const" in schema:
            return _choice([schema["const"]])
        if "enum" in schema:
            return _choice(_list(schema, "enum", least=1))
        kind = schema.get("type")
        if isinstance(kind, list):
            return union([self.read({**schema, "type": each}, name) for each in _list(schema, "type", least=1)])
        said = [(_LIMITS[key], value) for key, value in schema.items() if key in _LIMITS]
        if kind == "array":
            return self._array(schema, name, said)
        if kind == "object":
            return self._object(schema, name, said)
        if kind is None:
            return ANY
        if not isinstance(kind, str) or kind not in _SIMPLE:
            raise unreadable(f"there is no type {kind!r}", schema)
        if kind == "string" and str(schema.get("format")) in _FORMATS:
            return SCALARS[_FORMATS[schema["format"]]]
        return limited(_SIMPLE[kind], said)

    def _referred(self, reference: str, name: str) -> Type:
        key = self._key(reference)
        if key in self._open:
            raise unreadable(f"{key} contains itself; a struct cannot", reference)
        self._open.append(key)
        try:
            return self.read(self._definitions[key], key)
        finally:
            self._open.pop()

    def _key(self, reference: Any) -> str:
        key = str(reference).removeprefix("#/$defs/").removeprefix("#/definitions/")
        if key not in self._definitions:
            raise unreadable(f"{reference!r} refers to nothing in $defs", reference)
        return key

    def _together(self, schema: MappingABC[str, Any], opened: tuple[str, ...] = ()) -> dict[str, Any]:
        """What a schema and all the parts of its ``allOf`` say, as one. Raises SignatureError where two of them say
        different things."""
        made = {key: value for key, value in schema.items() if key not in ("allOf", "$ref")}
        parts = _list(schema, "allOf", least=1) if "allOf" in schema else []
        for part in [*([{"$ref": schema["$ref"]}] if "$ref" in schema else []), *parts]:
            if not isinstance(part, MappingABC):
                raise unreadable("allOf is a list of schemas", part)
            for key, value in self._resolved(part, opened).items():
                made[key] = _both(key, made[key], value) if key in made else value
        return made

    def _resolved(self, part: MappingABC[str, Any], opened: tuple[str, ...]) -> MappingABC[str, Any]:
        if "$ref" in part:
            key = self._key(part["$ref"])
            if key in opened:
                raise unreadable(f"{key} contains itself; a struct cannot", part)
            part = {**part, "allOf": [*part.get("allOf", ()), self._definitions[key]]}
            return self._together({name: value for name, value in part.items() if name != "$ref"}, (*opened, key))
        return self._together(part, opened) if "allOf" in part else part

    def _array(self, schema: MappingABC[str, Any], name: str, said: list[tuple[str, Any]]) -> Type:
        if "prefixItems" in schema:
            return FixedTuple(tuple([self.read(part, name) for part in _list(schema, "prefixItems", least=1)]))
        items = schema.get("items", {})
        item = None if items in ({}, True) else self.read(items, name)
        return limited(Array("set" if schema.get("uniqueItems") else "list", item), said)

    def _object(self, schema: MappingABC[str, Any], name: str, said: list[tuple[str, Any]]) -> Type:
        properties = schema.get("properties")
        if properties and not isinstance(properties, MappingABC):
            raise unreadable("properties are an object", properties)
        if not properties:
            values = schema.get("additionalProperties", True)
            keys = schema.get("propertyNames")
            if values in (True, {}) and keys is None:
                return limited(Mapping(), said)
            if keys is not None and not isinstance(keys, MappingABC):
                raise unreadable("propertyNames is a schema", keys)
            key = STR if keys is None else self.read({"type": "string", **keys}, name)
            return limited(Mapping(key, self.read(values, name)), said)
        called = _identifier(str(schema.get("title") or name))
        required = required_of(schema)
        fields = tuple(self._field(each, part, each in required) for each, part in properties.items())
        return Record(called, fields, inspect.cleandoc(described(schema) or "") or None)

    def _field(self, name: str, schema: Any, required: bool) -> Field:
        kind = self.read(schema, name)
        default = literal(schema["default"]) if isinstance(schema, MappingABC) and "default" in schema else None
        if not required and default is None:
            kind, default = union([kind, NONE]), "None"
        return Field(name, kind, described(schema), True, default)


def _alone(schema: MappingABC[str, Any]) -> Any:
    """The reference that is all that a schema says of its values, or None."""
    parts = schema.get("allOf")
    if "$ref" not in schema and isinstance(parts, list) and len(parts) == 1 and isinstance(parts[0], MappingABC):
        schema = {**schema, **parts[0]}
        schema.pop("allOf", None)
    return schema["$ref"] if "$ref" in schema and schema.keys() <= _SAYS_NOTHING else None


def _both(key: str, first: Any, second: Any) -> Any:
    """One keyword's value where two schemas hold together. Raises SignatureError where no type says both."""
    if key == "properties" and isinstance(first, MappingABC) and isinstance(second, MappingABC):
        return {**first, **{name: _same(name, first, value) for name, value in second.items()}}
    if key == "required" and isinstance(first, list) and isinstance(second, list):
        return [*first, *second]
    return first if key in _SAYS_NOTHING else _same(key, {key: first}, second)


def _same(name: str, known: MappingABC[str, Any], value: Any) -> Any:
    if known.get(name, value) != value:
        raise unreadable(f"two parts say different things of {name!r}", [known[name], value])
    return value


def _list(schema: MappingABC[str, Any], key: str, *, least: int = 0) -> list[Any]:
    said = schema[key]
    if not isinstance(said, list | tuple) or len(said) < least:
        raise unreadable(f"{key} is a list{' with something in it' if least else ''}", said)
    return list(said)


def _choice(values: list[Any]) -> Type:
    for value in values:
        if value is not None and not isinstance(value, str | int):
            raise unreadable("a choice is of texts, whole numbers, true, false and null", value)
    return choice(tuple(values))


def _identifier(name: str) -> str:
    """``shipping address`` is ShippingAddress."""
    words = "".join(letter if letter.isascii() and letter.isalnum() else " " for letter in name).split()
    made = "".join(word[:1].upper() + word[1:] for word in words)
    return made if made and not made[0].isdigit() else f"Record{made}"


def unreadable(reason: str, schema: Any) -> SignatureError:
    return SignatureError(f"this JSON Schema has no type: {reason}", text=repr(schema))
