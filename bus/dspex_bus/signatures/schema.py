"""Types to JSON Schema, in the shape and key order that DSPy puts into its prompts (``type`` first, then sorted)."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, assert_never

from .types import (
    NONE,
    AnyOf,
    Array,
    Choice,
    Constrained,
    Field,
    FixedTuple,
    Foreign,
    Limit,
    Mapping,
    Record,
    Scalar,
    Type,
)

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

_LIMITS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
    "min_length": "minLength",
    "max_length": "maxLength",
    "pattern": "pattern",
    "min_items": "minItems",
    "max_items": "maxItems",
}
_OF_OBJECTS = {"min_items": "minProperties", "max_items": "maxProperties"}

Definitions = dict[str, dict[str, Any]]


def json_schema(kind: Type) -> dict[str, Any]:
    """A fresh JSON Schema of the values of the type as they travel in JSON. Records inside it are under ``$defs``."""
    shared: Definitions = {}
    schema = record_schema(kind, shared) if isinstance(kind, Record) else schema_of(kind, shared)
    arranged_: dict[str, Any] = arranged({**schema, "$defs": shared} if shared else schema)
    return arranged_


def arranged(schema: Any) -> Any:
    """The same schema with ``type`` first in every object and the rest sorted."""
    if isinstance(schema, dict):
        return {key: arranged(schema[key]) for key in sorted(schema, key=lambda key: (key != "type", key))}
    return [arranged(part) for part in schema] if isinstance(schema, list) else schema


def schema_of(kind: Type, shared: Definitions) -> dict[str, Any]:
    """A schema that refers to records in ``shared``, which is filled with them."""
    match kind:
        case Scalar(name=name):
            return deepcopy(_SCALARS[name])
        case Array(kind=name, item=item):
            schema = {"type": "array", "items": {} if item is None else schema_of(item, shared)}
            return schema | ({"uniqueItems": True} if name in ("set", "frozenset") else {})
        case FixedTuple(items=items):
            count = len(items)
            prefix = [schema_of(item, shared) for item in items]
            return {"type": "array", "maxItems": count, "minItems": count, "prefixItems": prefix}
        case Mapping(key=key, value=value):
            return _mapping(key, value, shared)
        case Choice(values=values):
            return _choice(values)
        case AnyOf(members=members):
            return _any_of(members, shared)
        case Constrained(base=base, limits=limits):
            return _limited(base, limits, shared)
        case Record(name=name):
            if name not in shared:
                shared[name] = {}  # its place, before those of the records inside it
                shared[name] = record_schema(kind, shared)
            return {"$ref": f"#/$defs/{name}"}
        case Foreign():
            return {}
    assert_never(kind)


def record_schema(record: Record, shared: Definitions) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {field.name: property_schema(field, shared) for field in record.fields},
        "title": record.name,
    }
    if record.description:
        schema["description"] = record.description
    required = [field.name for field in record.fields if field.default is None]
    return schema | ({"required": required} if required else {})


def property_schema(field: Field, shared: Definitions) -> dict[str, Any]:
    schema = schema_of(field.type, shared)
    if not _has_title_of_its_own(field.type):
        schema["title"] = field.name.title().replace("_", " ").strip()
    if field.description:
        schema["description"] = field.description
    if field.default is not None:
        schema["default"] = field.default_value
    return schema


def _has_title_of_its_own(kind: Type) -> bool:
    """A record, or an optional one."""
    if isinstance(kind, AnyOf) and NONE in kind.members and len(kind.members) == 2:
        kind = next(member for member in kind.members if member != NONE)
    return isinstance(kind, Record)


def _limited(base: Type, limits: tuple[Limit, ...], shared: Definitions) -> dict[str, Any]:
    schema = schema_of(base, shared)
    names = {**_LIMITS, **_OF_OBJECTS} if isinstance(base, Mapping) else _LIMITS
    said = {names[limit.name]: limit.value for limit in limits}
    if "anyOf" in schema:  # a decimal: its number has the limits
        schema["anyOf"][0] |= said
        return schema
    return schema | said


def _mapping(key: Type | None, value: Type | None, shared: Definitions) -> dict[str, Any]:
    values = schema_of(value, shared) if value is not None else {}
    schema: dict[str, Any] = {"type": "object", "additionalProperties": values or True}
    names = schema_of(key, shared) if key is not None else {}
    if names.pop("type", None) == "string" and names:
        schema["propertyNames"] = names
    return schema


def _choice(values: tuple[str | int | bool | None, ...]) -> dict[str, Any]:
    kinds = {_JSON_TYPE[type(value)] for value in values}
    said: dict[str, Any] = {"const": values[0]} if len(values) == 1 else {"enum": list(values)}
    return {"type": kinds.pop(), **said} if len(kinds) == 1 else said


def _any_of(members: tuple[Type, ...], shared: Definitions) -> dict[str, Any]:
    """A flat list: members whose schemas are equal (``list`` and ``list[Any]``) count once, and null comes last."""
    schemas: list[dict[str, Any]] = []
    for member in sorted(members, key=lambda member: member == NONE):
        schema = schema_of(member, shared)
        for part in schema.get("anyOf", [schema]):
            if part not in schemas:
                schemas.append(part)
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
