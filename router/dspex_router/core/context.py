"""The fields a step can read: layers, so that branches share what was there before them without copying it."""

from __future__ import annotations

from typing import Any, Final


class _Missing:
    __slots__ = ()


MISSING: Final = _Missing()


class Context:
    """``fields`` on top of ``base``, whose field ``hidden`` is only for who names it. Only the sequence that made a
    layer writes to it, and only between its steps: what its running steps see does not change under them."""

    __slots__ = ("base", "fields", "hidden")

    def __init__(self, fields: dict[str, Any] | None = None, base: Context | None = None, hidden: str = "") -> None:
        self.fields: dict[str, Any] = {} if fields is None else fields
        self.base = base
        self.hidden = hidden

    def get(self, path: str) -> Any:
        """The value at a dotted path (``parts.0.text``: names into objects, numbers into lists), or MISSING. A field
        that is there counts, whatever its value."""
        name, dot, rest = path.partition(".")
        layer: Context | None = self
        while layer is not None:
            if name in layer.fields:
                value = layer.fields[name]
                return _descend(value, rest) if dot else value
            layer = layer.base
        return MISSING

    def whole(self) -> dict[str, Any]:
        """Every field that is not hidden, as one new dict."""
        found = {} if self.base is None else self.base.whole()
        found.pop(self.hidden, None)
        found.update(self.fields)
        return found


def _descend(value: Any, path: str) -> Any:
    for token in path.split("."):
        if isinstance(value, dict) and token in value:
            value = value[token]
        elif isinstance(value, list) and token.isdecimal() and int(token) < len(value):
            value = value[int(token)]
        else:
            return MISSING
    return value
