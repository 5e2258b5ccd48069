"""Values as the text a prompt shows."""

from __future__ import annotations

import json
import math
from json.encoder import encode_basestring
from typing import Any

import msgspec

_compact = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_indented = json.JSONEncoder(ensure_ascii=False, indent=2).encode

_TEXTS = {str}


def show(value: Any, *, as_text: bool) -> str:
    """The value as DSPy prints it: text as it is, objects and arrays as JSON, anything else through ``str``.

    ``as_text`` says that the field's type is ``str``: a list for such a field becomes a numbered list.
    """
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if as_text and isinstance(value, list):
        return _numbered(value)
    if kind is list or kind is dict:
        return compact_json(value)
    if kind is float:
        return str(value)
    made = plain(value)
    return compact_json(made) if isinstance(made, list | dict) else str(made)


def compact_json(value: Any) -> str:
    """JSON of a list or dict. The encoder in C does it unless something inside has no JSON form of its own."""
    if type(value) is list and set(map(type, value)) == _TEXTS:  # passages: the most common of all
        return f"[{', '.join(map(encode_basestring, value))}]"
    try:
        text = _compact(value)
    except (TypeError, ValueError):
        return _compact(plain(value))
    return text if '"null":' not in text else _compact(plain(value))


def indented_json(value: dict[str, Any]) -> str:
    return _indented(plain(value))


def plain(value: Any) -> Any:
    """The value in JSON's own types, as pydantic would serialise it."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_key(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(part) for part in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    try:
        return plain_built(value)
    except TypeError:
        return str(value)


def plain_built(value: Any) -> Any:
    """Dates, decimals, enums, Structs and dataclasses; TypeError for anything else."""
    made = msgspec.to_builtins(value, str_keys=True)
    if type(made) is type(value):
        raise TypeError(f"{type(value).__name__} has no JSON form")
    return plain(made)


def _key(name: Any) -> str:
    if isinstance(name, str):
        return name
    if isinstance(name, bool):
        return "true" if name else "false"
    if isinstance(name, tuple):
        return ",".join(map(_key, name))
    return str(plain(name))


def _numbered(values: list[Any]) -> str:
    if not values:
        return "N/A"
    if len(values) == 1:
        return _quoted(values[0])
    return "\n".join([f"[{number}] {_quoted(value)}" for number, value in enumerate(values, 1)])


def _quoted(value: Any) -> str:
    """An entry in guillemets; one with lines or guillemets of its own becomes a block."""
    text = value if isinstance(value, str) else show(value, as_text=False)
    if "\n" not in text and "«" not in text and "»" not in text:
        return f"«{text}»"
    indented = text.replace("\n", "\n    ")
    return f"«««\n    {indented}\n»»»"
