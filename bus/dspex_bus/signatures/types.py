"""The types a signature's field can have, as a small tree of values.

``str(type)`` is the canonical text: what the parser reads back to an equal tree. None holds itself, so the garbage
collector need not follow them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec


class Scalar(msgspec.Struct, frozen=True, gc=False):
    """A type without arguments: one of ``SCALARS``."""

    name: str

    def __str__(self) -> str:
        return self.name


class Array(msgspec.Struct, frozen=True, gc=False):
    """``list``, ``set``, ``frozenset``, or a ``tuple`` of any length; ``item`` is None for the bare name."""

    kind: str
    item: Type | None = None

    def __str__(self) -> str:
        if self.item is None:
            return self.kind
        return f"tuple[{self.item}, ...]" if self.kind == "tuple" else f"{self.kind}[{self.item}]"


class FixedTuple(msgspec.Struct, frozen=True, gc=False):
    """``tuple[int, str]``: as many items as types."""

    items: tuple[Type, ...]

    def __str__(self) -> str:
        return f"tuple[{', '.join(map(str, self.items))}]"


class Mapping(msgspec.Struct, frozen=True, gc=False):
    """``dict[key, value]``; both None for the bare name."""

    key: Type | None = None
    value: Type | None = None

    def __str__(self) -> str:
        return "dict" if self.key is None else f"dict[{self.key}, {self.value}]"


class Choice(msgspec.Struct, frozen=True, gc=False):
    """``Literal[...]``. The text takes part in equality, because ``(1,) == (True,)`` in Python."""

    values: tuple[str | int | bool | None, ...]
    text: str

    def __str__(self) -> str:
        return self.text


class AnyOf(msgspec.Struct, frozen=True, gc=False):
    """``A | B``: at least two members, none of them an AnyOf, no two equal."""

    members: tuple[Type, ...]

    def __str__(self) -> str:
        return " | ".join(map(str, self.members))


class Foreign(msgspec.Struct, frozen=True, gc=False):
    """A type only DSPy can handle, such as ``dspy.Image``: known by name, never imported here."""

    name: str

    def __str__(self) -> str:
        return self.name


class Constrained(msgspec.Struct, frozen=True, gc=False):
    """``int[ge=0, le=10]``: values of ``base`` that keep to all of the ``limits``, in the order written."""

    base: Type
    limits: tuple[Limit, ...]

    def __str__(self) -> str:
        return f"{self.base}[{', '.join(map(str, self.limits))}]"


class Limit(msgspec.Struct, frozen=True, gc=False):
    """``name`` is one of ``LIMITS``."""

    name: str
    value: int | float | str

    def __str__(self) -> str:
        return f"{self.name}={quote(self.value) if isinstance(self.value, str) else repr(self.value)}"


class Record(msgspec.Struct, frozen=True, gc=False):
    """``Person{name: str, age: int}``: an object with these fields. What is known under one name is one record."""

    name: str
    fields: tuple[Field, ...]
    description: str | None = None

    def __str__(self) -> str:
        said = "" if self.description is None else f"{quote(self.description)} "
        return f"{self.name}{{{said}{', '.join(map(str, self.fields))}}}"


class Field(msgspec.Struct, frozen=True, gc=False):
    """A field of a signature or of a record. ``typed`` is whether a type was written. An input without one takes any
    value, as in DSPy; it is still ``str`` in the prompt. ``default`` is its literal, None where there is none."""

    name: str
    type: Type
    description: str | None = None
    typed: bool = True
    default: str | None = None

    def __str__(self) -> str:
        declared = f"{self.name}: {self.type}" if self.typed else self.name
        given = "" if self.default is None else f" = {self.default}"
        return declared + given + ("" if self.description is None else f" {quote(self.description)}")

    @property
    def default_value(self) -> Any:
        """A fresh copy of the default."""
        assert self.default is not None
        return ast.literal_eval(self.default)

    @property
    def optional(self) -> bool:
        """Whether it may be left out: None is allowed, or there is a default."""
        return self.default is not None or allows_none(self.type)


Type: TypeAlias = Scalar | Array | FixedTuple | Mapping | Choice | AnyOf | Foreign | Constrained | Record

NUMBERS = ("ge", "gt", "le", "lt", "multiple_of")
TEXTS = ("min_length", "max_length", "pattern")
SIZES = ("min_items", "max_items")
LIMITS = (*NUMBERS, *TEXTS, *SIZES)


def base_of(kind: Type) -> Type:
    """The type without the limits on it."""
    return kind.base if isinstance(kind, Constrained) else kind


def limits_of(kind: Type) -> tuple[str, ...]:
    """The names of the limits that values of a type can have."""
    match kind:
        case Scalar(name="int" | "float" | "decimal.Decimal"):
            return NUMBERS
        case Scalar(name="str"):
            return TEXTS
        case Array() | Mapping():
            return SIZES
    return ()


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


def optional(kind: Type) -> Type:
    """The type, or None."""
    if isinstance(kind, AnyOf) or kind == NONE:
        return union([kind, NONE])
    return AnyOf((kind, NONE))


def allows_none(kind: Type) -> bool:
    """Whether None is a value of the type by being a member: what makes a field optional."""
    return kind == NONE or (isinstance(kind, AnyOf) and NONE in kind.members)


def hashable(kind: Type) -> bool:
    """Whether values of the type can be dictionary keys or members of a set."""
    match kind:
        case Scalar() | Choice():
            return True
        case Array(kind="tuple" | "frozenset", item=item):
            return item is None or hashable(item)
        case FixedTuple(items=parts) | AnyOf(members=parts):
            return all(map(hashable, parts))
        case Constrained(base=base):
            return hashable(base)
    return False


def foreign_names(kind: Type) -> tuple[str, ...]:
    """The DSPy-only types inside the type, in the order written."""
    return tuple(part.name for part in walk(kind) if isinstance(part, Foreign))


def walk(kind: Type) -> Iterator[Type]:
    """The type and every type inside it, in the order written."""
    yield kind
    for part in parts_of(kind):
        yield from walk(part)


def parts_of(kind: Type) -> tuple[Type, ...]:
    match kind:
        case FixedTuple(items=parts) | AnyOf(members=parts):
            return parts
        case Array(item=item) if item is not None:
            return (item,)
        case Mapping(key=key, value=value) if key is not None and value is not None:
            return (key, value)
        case Constrained(base=base):
            return (base,)
        case Record(fields=fields):
            return tuple(field.type for field in fields)
    return ()


def literal(value: Any) -> str:
    """The canonical text of a default: what Python and the parser read back to an equal value."""
    match value:
        case str():
            return quote(value)
        case list():
            return f"[{', '.join(map(literal, value))}]"
        case dict():
            return f"{{{', '.join(f'{literal(key)}: {literal(part)}' for key, part in value.items())}}}"
    return repr(value)


_ESCAPES = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def quote(text: str) -> str:
    """The text in single quotes, escaped as the parser (and Python) reads it."""
    if text.isprintable() and "'" not in text and "\\" not in text:
        return f"'{text}'"
    return "'" + "".join(_ESCAPES.get(c) or (c if c.isprintable() else _escaped(c)) for c in text) + "'"


def _escaped(char: str) -> str:
    number = ord(char)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
