"""A run's context: what a step is sent of it and what its outputs become in it, for routers and for workers alike.

It has layers, so that branches share what was there before them without copying it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple


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


class Lacking(NamedTuple):
    """The field that a step needs, and the path where it is not."""

    field: str
    path: str


def gather(
    context: Context, reads: Mapping[str, str], optional: Collection[str] = (), *, reads_all: bool = False
) -> dict[str, Any] | Lacking:
    """The fields that a step reads; see the wire's ``TaskNode``."""
    inputs: dict[str, Any] = context.whole() if reads_all else {}
    for field, path in reads.items():
        value = context.get(path)
        if value is not MISSING:
            inputs[field] = value
        elif field not in optional:
            return Lacking(field, path)
    return inputs


def written(outputs: dict[str, Any], writes: Mapping[str, str], save_as: str | None) -> dict[str, Any]:
    """The fields that a step's outputs become."""
    if writes:
        outputs = {writes.get(name, name): value for name, value in outputs.items()}
    return outputs if save_as is None else {save_as: outputs}
