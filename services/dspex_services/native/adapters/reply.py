"""A model's text to typed values, with DSPy's leniency: a value may be JSON, damaged JSON or a Python literal."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec

from dspex_bus.signatures import Field, Signature, coercer
from dspex_bus.signatures import types as t

from ..errors import ReplyError
from .layout import require_native

Reader: TypeAlias = Callable[[Any], Any]
"""Raises ValueError when the value does not fit."""


@lru_cache(maxsize=1024)
def readers(signature: Signature) -> Mapping[str, Reader]:
    """For each output, the function from the model's text to its value."""
    require_native(signature)
    return {field.name: _text_reader(field.type) for field in signature.outputs}


@lru_cache(maxsize=1024)
def typed_readers(signature: Signature) -> Mapping[str, Reader]:
    """Like :func:`readers`, for values that have come out of a JSON object."""
    require_native(signature)
    return {field.name: _typed_reader(field.type) for field in signature.outputs}


def completed(
    signature: Signature, layout: str, text: str, values: dict[str, Any], faults: Mapping[str, str]
) -> dict[str, Any]:
    """The values in the order of the signature; optional outputs left out have their default, or None. ReplyError if
    others are left out, or wrong."""
    if tuple(values) == signature.output_names:
        return values
    if len(values) == len(signature.outputs):
        return {field.name: values[field.name] for field in signature.outputs}
    missing = [f.name for f in signature.outputs if f.name not in values and f.name not in faults and not f.optional]
    if missing or faults:
        raise ReplyError(layout, text, missing=missing, faults=faults)
    return {f.name: values[f.name] if f.name in values else _default(f) for f in signature.outputs}


def _default(field: Field) -> Any:
    return None if field.default is None else coercer(field.type)(field.default_value)


_NO_JSON = re.compile(r"[\w.:+-]*")
_PYTHON = {"True": True, "False": False, "None": None}


def from_json(text: str) -> Any:
    """The JSON in a text. Damaged JSON is repaired as DSPy does it; a text without any gives ""."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return _from_loose_json(text)
    except RecursionError:
        return ""


def _from_loose_json(text: str) -> Any:
    """What Python takes for JSON and msgspec does not (NaN, lone surrogates), then repair."""
    try:
        return json.loads(text)
    except ValueError:
        if _NO_JSON.fullmatch(text):
            return ""  # a word, a date: nothing to repair, and repair is slow
        return _repaired(text)


def _repaired(text: str) -> Any:
    import json_repair  # only damaged replies pay for it

    try:
        return json_repair.loads(text)
    except RecursionError:
        return ""


def _text_reader(kind: t.Type) -> Reader:
    if isinstance(kind, t.Constrained):
        return _both(_text_reader(kind.base), coercer(kind))
    fit = coercer(kind)
    if kind == t.STR:
        return str
    if isinstance(kind, t.AnyOf) and t.NONE in kind.members and t.STR in kind.members:
        return fit
    if isinstance(kind, t.Choice):
        return _choice_reader(kind, fit)
    return lambda text: fit(_from_text(text))


def _both(read: Reader, fit: Reader) -> Reader:
    return lambda value: fit(read(value))


def _typed_reader(kind: t.Type) -> Reader:
    if isinstance(kind, t.Constrained):
        return _both(_typed_reader(kind.base), coercer(kind))
    fit = coercer(kind)
    read = _text_reader(kind)
    if kind == t.STR:
        return str
    if isinstance(kind, t.Choice):
        return lambda value: read(value) if isinstance(value, str) else _equal_choice(kind, value, fit)
    return lambda value: read(value) if isinstance(value, str) else fit(value)


def _from_text(text: str) -> Any:
    if text in _PYTHON:
        return _PYTHON[text]
    found = from_json(text)
    if found == "" and text != "":
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return text
    return found


def _choice_reader(kind: t.Choice, fit: Reader) -> Reader:
    words = {value: value for value in kind.values if isinstance(value, str)}

    def read(text: str) -> Any:
        if text in words:
            return words[text]
        bare = text.strip()
        if bare.startswith(("Literal[", "str[")) and bare.endswith("]"):
            bare = bare[bare.find("[") + 1 : -1]
        if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "\"'":
            bare = bare[1:-1]
        return words[bare] if bare in words else fit(_from_text(bare))

    return read


def _equal_choice(kind: t.Choice, value: Any, fit: Reader) -> Any:
    """DSPy compares with ``==`` here, so that True is one of ``Literal[1, 2]``."""
    return value if value in kind.values else fit(value)
