"""Types to JSON Schema, in the shape and key order that DSPy puts into its prompts (``type`` first, then sorted)."""

from __future__ import annotations

from typing import Any, assert_never

from .types import NONE, AnyOf, Array, Choice, FixedTuple, Foreign, Mapping, Scalar, Type

_SCALARS: dict[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "None": {"type": "null"},
    "Any": {},
    "datetime.date": {"type": "string", "format": "date"},
    "datetime.datetime": {"type": "string", "format": "date-time"},
    "datetime.time": {"type": "string", "format": "time"},
    "datetime.timedelta": {"type": "string", "format": "duration"},
    "uuid.UUID": {"type": "string", "format": "uuid"},
    "decimal.Decimal": {"anyOf": [{"type": "number"}, {"type": "string"}]},
}

_JSON_TYPE = {str: "string", int: "integer", bool: "boolean", type(None): "null"}


def json_schema(kind: Type) -> dict[str, Any]:
    """A fresh JSON Schema of the values of the type as they travel in JSON."""
    match kind:
        case Scalar(name=name):
            return dict(_SCALARS[name])
        case Array(kind=name, item=item):
            schema = {"type": "array", "items": {} if item is None else json_schema(item)}
            return schema | ({"uniqueItems": True} if name in ("set", "frozenset") else {})
        case FixedTuple(items=items):
            count = len(items)
            prefix = [json_schema(item) for item in items]
            return {"type": "array", "maxItems": count, "minItems": count, "prefixItems": prefix}
        case Mapping(key=key, value=value):
            return _mapping(key, value)
        case Choice(values=values):
            return _choice(values)
        case AnyOf(members=members):
            return _any_of(members)
        case Foreign():
            return {}
    assert_never(kind)


def _mapping(key: Type | None, value: Type | None) -> dict[str, Any]:
    values = json_schema(value) if value is not None else {}
    schema: dict[str, Any] = {"type": "object", "additionalProperties": values or True}
    names = json_schema(key) if key is not None else {}
    if names.pop("type", None) == "string" and names:
        schema["propertyNames"] = names
    return schema


def _choice(values: tuple[str | int | bool | None, ...]) -> dict[str, Any]:
    kinds = {_JSON_TYPE[type(value)] for value in values}
    said: dict[str, Any] = {"const": values[0]} if len(values) == 1 else {"enum": list(values)}
    return {"type": kinds.pop(), **said} if len(kinds) == 1 else said


def _any_of(members: tuple[Type, ...]) -> dict[str, Any]:
    """A flat list: members whose schemas are equal (``list`` and ``list[Any]``) count once, and null comes last."""
    schemas: list[dict[str, Any]] = []
    for member in sorted(members, key=lambda member: member == NONE):
        schema = json_schema(member)
        for part in schema.get("anyOf", [schema]):
            if part not in schemas:
                schemas.append(part)
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
