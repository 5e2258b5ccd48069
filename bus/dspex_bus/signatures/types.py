"""The types a signature's field can have, as a small tree of values.

``str(type)`` is the canonical text: what the parser reads back to an equal tree, and what DSPy's own parser accepts.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class Scalar(msgspec.Struct, frozen=True):
    """A type without arguments: one of ``SCALARS``."""

    name: str

    def __str__(self) -> str:
        return self.name


class Array(msgspec.Struct, frozen=True):
    """``list``, ``set``, ``frozenset``, or a ``tuple`` of any length; ``item`` is None for the bare name."""

    kind: str
    item: Type | None = None

    def __str__(self) -> str:
        if self.item is None:
            return self.kind
        return f"tuple[{self.item}, ...]" if self.kind == "tuple" else f"{self.kind}[{self.item}]"


class FixedTuple(msgspec.Struct, frozen=True):
    """``tuple[int, str]``: as many items as types."""

    items: tuple[Type, ...]

    def __str__(self) -> str:
        return f"tuple[{', '.join(map(str, self.items))}]"


class Mapping(msgspec.Struct, frozen=True):
    """``dict[key, value]``; both None for the bare name."""

    key: Type | None = None
    value: Type | None = None

    def __str__(self) -> str:
        return "dict" if self.key is None else f"dict[{self.key}, {self.value}]"


class Choice(msgspec.Struct, frozen=True):
    """``Literal[...]``. The text takes part in equality, because ``(1,) == (True,)`` in Python."""

    values: tuple[str | int | bool | None, ...]
    text: str

    def __str__(self) -> str:
        return self.text


class AnyOf(msgspec.Struct, frozen=True):
    """``A | B``: at least two members, none of them an AnyOf, no two equal."""

    members: tuple[Type, ...]

    def __str__(self) -> str:
        return " | ".join(map(str, self.members))


class Foreign(msgspec.Struct, frozen=True):
    """A type only DSPy can handle, such as ``dspy.Image``: known by name, never imported here."""

    name: str

    def __str__(self) -> str:
        return self.name


Type: TypeAlias = Scalar | Array | FixedTuple | Mapping | Choice | AnyOf | Foreign

STR = Scalar("str")
NONE = Scalar("None")
ANY = Scalar("Any")

SCALARS: dict[str, Scalar] = {
    "str": STR,
    "int": Scalar("int"),
    "float": Scalar("float"),
    "bool": Scalar("bool"),
    "Any": ANY,
    "None": NONE,
    "datetime.date": Scalar("datetime.date"),
    "datetime.datetime": Scalar("datetime.datetime"),
    "datetime.time": Scalar("datetime.time"),
    "datetime.timedelta": Scalar("datetime.timedelta"),
    "decimal.Decimal": Scalar("decimal.Decimal"),
    "uuid.UUID": Scalar("uuid.UUID"),
}
"""Canonical name -> type. Dotted names are written out because that is how DSPy's parser finds them."""


def choice(values: tuple[str | int | bool | None, ...]) -> Choice:
    """A Choice of these values, in order, each once."""
    kept = {quote(value) if isinstance(value, str) else repr(value): value for value in values}
    return Choice(tuple(kept.values()), f"Literal[{', '.join(kept)}]")


def union(members: list[Type]) -> Type:
    """The flat union of the members, each once; a single member is itself."""
    flat: dict[Type, None] = {}
    for member in members:
        for part in member.members if isinstance(member, AnyOf) else (member,):
            flat[part] = None
    return AnyOf(tuple(flat)) if len(flat) > 1 else next(iter(flat))


def allows_none(kind: Type) -> bool:
    """Whether None is a value of the type by being a member: what makes a field optional."""
    return kind == NONE or (isinstance(kind, AnyOf) and NONE in kind.members)


def hashable(kind: Type) -> bool:
    """Whether values of the type can be dictionary keys or members of a set."""
    match kind:
        case Array(kind="tuple" | "frozenset", item=item):
            return item is None or hashable(item)
        case FixedTuple(items=parts) | AnyOf(members=parts):
            return all(map(hashable, parts))
        case Array() | Mapping() | Foreign():
            return False
    return True


def foreign_names(kind: Type) -> tuple[str, ...]:
    """The DSPy-only types inside the type, in the order written."""
    match kind:
        case Foreign(name=name):
            return (name,)
        case FixedTuple(items=parts) | AnyOf(members=parts):
            return tuple(name for part in parts for name in foreign_names(part))
        case Array(item=item) if item is not None:
            return foreign_names(item)
        case Mapping(key=key, value=value) if key is not None and value is not None:
            return foreign_names(key) + foreign_names(value)
    return ()


_ESCAPES = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def quote(text: str) -> str:
    """The text in single quotes, escaped as the parser (and Python) reads it."""
    if text.isprintable() and "'" not in text and "\\" not in text:
        return f"'{text}'"
    return "'" + "".join(_ESCAPES.get(c) or (c if c.isprintable() else _escaped(c)) for c in text) + "'"


def _escaped(char: str) -> str:
    number = ord(char)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
