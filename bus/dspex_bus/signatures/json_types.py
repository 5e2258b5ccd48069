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

Definitions = MappingABC[str, Any]


def type_from_schema(schema: Any, definitions: Definitions | None = None, name: str = "Record") -> Type:
    """The type whose values a JSON Schema describes; ``name`` is for objects without a title. Raises SignatureError for
    schemas that say more than a type can."""
    own = schema.get("$defs", {}) if isinstance(schema, MappingABC) else {}
    found = definitions or own
    if not isinstance(found, MappingABC):
        raise unreadable("$defs is an object", found)
    return _Reader(found).read(schema, name)


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
        if "$ref" in schema:
            return self._referred(schema["$ref"], name)
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
        key = str(reference).removeprefix("#/$defs/")
        if key not in self._definitions:
            raise unreadable(f"{reference!r} refers to nothing in $defs", reference)
        if key in self._open:
            raise unreadable(f"{key} contains itself; a struct cannot", reference)
        self._open.append(key)
        try:
            return self.read(self._definitions[key], key)
        finally:
            self._open.pop()

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
