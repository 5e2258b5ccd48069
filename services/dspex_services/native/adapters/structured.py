"""The JSON Schema that DSPy's JSONAdapter sends with a request, for models that take one."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from dspex_bus.signatures import Signature
from dspex_bus.signatures import types as t
from dspex_bus.signatures.schema import Definitions, property_schema

SCHEMA_NAME = "DSPyProgramOutputs"


@lru_cache(maxsize=1024)
def response_schema(signature: Signature) -> dict[str, Any]:
    """Of the outputs, in the form that strict decoding wants; {}, any object, where an output is a mapping of unknown
    keys."""
    if any(_is_open(t.base_of(field.type)) for field in signature.outputs):
        return {}
    shared: Definitions = {}
    bare = [msgspec.structs.replace(one, type=t.base_of(one.type), description=None) for one in signature.outputs]
    properties = {field.name: property_schema(field, shared) for field in bare}
    schema: dict[str, Any] = {
        "additionalProperties": False,
        "properties": properties,
        "title": SCHEMA_NAME,
        "type": "object",
    }
    if shared:
        schema["$defs"] = shared
    _close(schema)
    return schema


def _is_open(kind: t.Type) -> bool:
    return isinstance(kind, t.Mapping) and kind.key is not None


def _close(schema: dict[str, Any]) -> None:
    """No object has more than it names, and all of that; as far down as DSPy looks."""
    if schema.get("type") == "object":
        properties = schema.setdefault("properties", {})
        schema["required"] = list(properties)
        schema["additionalProperties"] = False
        for inner in properties.values():
            _close(inner)
    if schema.get("type") == "array" and isinstance(schema.get("items"), dict):
        _close(schema["items"])
    for inner in schema.get("$defs", {}).values():
        _close(inner)
