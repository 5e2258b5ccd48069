"""A reply's fields laid out as each of DSPy's adapters reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from .prompt import OutputField, Style


def render(style: Style, fields: Sequence[OutputField], values: Mapping[str, Any]) -> str:
    """The reply's text; ``values`` are JSON values by field name."""
    if style == "json":
        return json.dumps({field.name: values[field.name] for field in fields}, ensure_ascii=False)
    if style == "xml":
        return "\n\n".join(_element(field.name, values[field.name]) for field in fields)
    sections = [f"[[ ## {field.name} ## ]]\n{_text(values[field.name])}" for field in fields]
    return "\n\n".join([*sections, "[[ ## completed ## ]]"])


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def _element(tag: str, value: Any, attributes: str = "") -> str:
    """Lists hold ``item`` elements, objects an element a key, or an ``entry`` where the key is no XML name."""
    match value:
        case list():
            content = "".join(_element("item", item) for item in value)
        case dict():
            content = "".join(_member(str(key), item) for key, item in value.items())
        case None:
            content = ""
        case _:
            content = escape(str(value))
    return f"<{tag}{attributes}>{content}</{tag}>"


def _member(key: str, value: Any) -> str:
    return _element(key, value) if key.isidentifier() else _element("entry", value, f" key={quoteattr(key)}")
