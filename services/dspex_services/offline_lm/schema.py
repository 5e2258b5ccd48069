"""What type an output field has, as JSON Schema, from the words a prompt describes it with."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

Schema = dict[str, Any]

_SIMPLE: dict[str, Schema] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "list": {"type": "array"},
    "dict": {"type": "object"},
    "Any": {},
    "None": {"type": "null"},
    "NoneType": {"type": "null"},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
    "Reasoning": {"type": "string"},
}
_LISTS = ("list", "List", "set", "tuple", "Sequence", "Set", "Tuple", "frozenset")
_CHOICES = re.compile(r"must (?:be|exactly match \(no extra characters\)) one of: (.*)")
_JSON_SCHEMA = re.compile(r"must adhere to the JSON schema: (.*)", re.DOTALL)


def schema_of(annotation: str, note: str = "") -> Schema:
    """From a type's name as prompts print it and the note about its form; text where neither says."""
    try:
        known = _of(ast.parse(annotation.strip(), mode="eval").body)
    except (SyntaxError, ValueError):
        known = None
    return known if known is not None else _of_note(note)


def _of(node: ast.expr) -> Schema | None:
    match node:
        case ast.Constant(value=None):
            return _SIMPLE["None"]
        case ast.Name(id=name):
            return _SIMPLE.get(name)
        case ast.Attribute(attr=name):
            return _SIMPLE.get(name)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _any_of([left, right])
        case ast.Subscript(value=ast.Name(id=name), slice=inner):
            return _generic(name, list(inner.elts) if isinstance(inner, ast.Tuple) else [inner])
    return None


def _generic(name: str, inner: list[ast.expr]) -> Schema | None:
    if name == "Literal":
        return {"enum": [ast.literal_eval(choice) for choice in inner]}
    if name in ("Union", "Optional"):
        return _any_of([*inner, ast.Constant(value=None)] if name == "Optional" else inner)
    item = _of(inner[-1] if name in ("dict", "Dict") else inner[0])
    if item is None:
        return None
    if name in ("dict", "Dict"):
        return {"type": "object", "additionalProperties": item}
    return {"type": "array", "items": item} if name in _LISTS else None


def _any_of(options: list[ast.expr]) -> Schema | None:
    found = [_of(option) for option in options]
    return None if None in found else {"anyOf": found}


def _of_note(note: str) -> Schema:
    if "must be True or False" in note:
        return {"type": "boolean"}
    if "must be a single int" in note:
        return {"type": "integer"}
    if "must be a single float" in note:
        return {"type": "number"}
    if match := _CHOICES.search(note):
        return {"enum": match.group(1).strip().split("; ")}
    if match := _JSON_SCHEMA.search(note):
        try:
            return dict(json.JSONDecoder().raw_decode(match.group(1))[0])
        except (ValueError, TypeError):
            return {"type": "string"}
    return {"type": "string"}


def resolve(schema: Schema, root: Schema) -> Schema:
    """``schema`` with a reference followed and the first option of a choice that is not null taken."""
    for _ in range(20):
        if "$ref" in schema:
            schema = root.get("$defs", {}).get(str(schema["$ref"]).rpartition("/")[2], {})
        elif options := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
            schema = next((option for option in options if option.get("type") != "null"), {"type": "null"})
        else:
            return schema
    return {}
