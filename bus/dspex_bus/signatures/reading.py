"""Python annotations as types: what a class, a function or a DSPy signature is written in."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import types as python
import typing
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from .errors import SignatureError
from .limits import why_not
from .names import DSPY_TYPES
from .types import (
    ANY,
    NONE,
    SCALARS,
    STR,
    Array,
    Constrained,
    Field,
    FixedTuple,
    Foreign,
    Limit,
    Mapping,
    Record,
    Type,
    choice,
    limits_of,
    literal,
    union,
)

_SCALARS: dict[Any, Type] = {
    str: STR,
    int: SCALARS["int"],
    float: SCALARS["float"],
    bool: SCALARS["bool"],
    None: NONE,
    type(None): NONE,
    Any: ANY,
    object: ANY,
    datetime.date: SCALARS["datetime.date"],
    datetime.datetime: SCALARS["datetime.datetime"],
    datetime.time: SCALARS["datetime.time"],
    datetime.timedelta: SCALARS["datetime.timedelta"],
    decimal.Decimal: SCALARS["decimal.Decimal"],
    uuid.UUID: SCALARS["uuid.UUID"],
    dict: Mapping(),
    typing.Dict: Mapping(),  # noqa: UP006
    typing.List: Array("list"),  # noqa: UP006
    typing.Set: Array("set"),  # noqa: UP006
    typing.FrozenSet: Array("frozenset"),  # noqa: UP006
    typing.Tuple: Array("tuple"),  # noqa: UP006
    **{kind: Array(kind.__name__) for kind in (list, set, frozenset, tuple)},
}
_ARRAYS = {list: "list", set: "set", frozenset: "frozenset"}
_UNIONS = (typing.Union, python.UnionType)

Special = Callable[[Any], "Type | None"]
Metadata = Callable[[Any], "dict[str, Any]"]


def no_special(kind: Any) -> Type | None:
    return None


_SAID = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern", "description")


def meta_of(data: Any) -> dict[str, Any]:
    """What a ``msgspec.Meta`` says, by the names of limits, and its ``description``; or one of annotated_types' or
    pydantic's, which are known by their attributes."""
    said = {name: value for name in _SAID if (value := getattr(data, name, None)) is not None}
    parts = [] if isinstance(data, msgspec.Meta) else getattr(data, "metadata", ())
    for part in parts if isinstance(parts, list) else ():
        said |= meta_of(part)
    return {name: value for name, value in said.items() if isinstance(value, str | int | float)}


def type_of(kind: Any, special: Special = no_special, metadata: Metadata = meta_of) -> Type:
    """The type that an annotation stands for. ``special`` reads what this does not know, ``metadata`` what Annotated
    adds. Raises SignatureError for what has no form in a signature."""

    def of(part: Any) -> Type:
        return type_of(part, special, metadata)

    try:
        if kind in _SCALARS:
            return _SCALARS[kind]
    except TypeError:  # it has no hash
        raise _unknown(kind) from None
    found = special(kind)
    if found is not None:
        return found
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return limited(of(arguments[0]), [said for data in arguments[1:] for said in metadata(data).items()])
    if origin in _UNIONS:
        return union([of(part) for part in arguments])
    if origin is typing.Literal:
        return choice(arguments)
    if origin in _ARRAYS:
        return Array(_ARRAYS[origin], of(arguments[0]))
    if origin is tuple:
        open_ended = len(arguments) == 2 and arguments[1] is Ellipsis
        return Array("tuple", of(arguments[0])) if open_ended else FixedTuple(tuple(map(of, arguments)))
    if origin is dict:
        return Mapping(of(arguments[0]), of(arguments[1]))
    if _is_record(kind):
        return _record(kind, special, metadata)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return choice(tuple(member.value for member in kind))
    if isinstance(kind, type) and kind.__module__.startswith("dspy.") and kind.__name__ in DSPY_TYPES:
        return Foreign(f"dspy.{kind.__name__}")
    raise _unknown(kind)


def _is_record(kind: Any) -> bool:
    if not isinstance(kind, type):
        return False
    return msgspec.inspect.is_struct_type(kind) or dataclasses.is_dataclass(kind) or typing.is_typeddict(kind)


def limited(base: Type, said: list[tuple[str, Any]]) -> Type:
    """The type with limits. Those on the size of a list or dict are called ``min_items`` and ``max_items``."""
    limits: list[Limit] = []
    for name, value in said:
        if name == "description":
            continue
        if name.endswith("_length") and "min_items" in limits_of(base):
            name = name.replace("_length", "_items")
        reason, suggestion = why_not(base, limits, name, value)
        if reason:
            raise SignatureError(reason, text=f"{base}[{name}={value!r}]", suggestion=suggestion)
        limits.append(Limit(name, value))
    return Constrained(base, tuple(limits)) if limits else base


def description_of(kind: Any, metadata: Metadata = meta_of) -> str | None:
    """The description that an annotation carries."""
    if typing.get_origin(kind) is not typing.Annotated:
        return None
    found = [said["description"] for data in typing.get_args(kind)[1:] if "description" in (said := metadata(data))]
    return str(found[-1]) if found else None


def _record(kind: type, special: Special, metadata: Metadata) -> Record:
    def within(part: Any) -> Type | None:
        if part is kind:
            raise SignatureError(f"{kind.__name__} contains itself; a struct cannot", text=str(kind))
        return special(part)

    hints = typing.get_type_hints(kind, include_extras=True)
    fields = []
    for name, default in _defaults(kind).items():
        made = None if default is msgspec.NODEFAULT else literal(plain_default(default, f"{kind.__name__}.{name}"))
        hint = hints[name]
        if (said := typing.get_origin(hint)) in (typing.Required, typing.NotRequired):
            hint = hints[name] = typing.get_args(hint)[0]
            made = "None" if said is typing.NotRequired else None  # what the class itself knows may be a text
        read = type_of(hint, within, metadata)
        if made == "None" and typing.is_typeddict(kind):
            read = union([read, NONE])
        fields.append(Field(name, read, description_of(hints[name], metadata), True, made))
    return Record(kind.__name__, tuple(fields), own_doc(kind))


def _defaults(kind: Any) -> dict[str, Any]:
    """Each field's default, NODEFAULT where it has none."""
    if msgspec.inspect.is_struct_type(kind):
        return {
            field.name: field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
            for field in msgspec.structs.fields(kind)
        }
    if typing.is_typeddict(kind):
        return {name: msgspec.NODEFAULT if name in kind.__required_keys__ else None for name in kind.__annotations__}
    found: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        given = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        found[field.name] = msgspec.NODEFAULT if given is dataclasses.MISSING else given
    return found


def plain_default(value: Any, where: str) -> Any:
    """A default in JSON's own types. Raises SignatureError for one that has none."""
    try:
        return msgspec.to_builtins(value, str_keys=True)
    except TypeError:
        raise SignatureError(f"the default of {where} has no form in JSON", text=repr(value)) from None


def own_doc(kind: Any) -> str | None:
    """A class's own docstring; the one that dataclasses write themselves says nothing."""
    said, name = kind.__dict__.get("__doc__"), kind.__name__
    if not said or (dataclasses.is_dataclass(kind) and said.startswith(f"{name}(")):
        return None
    import inspect

    return inspect.cleandoc(said)


def _unknown(kind: Any) -> SignatureError:
    name = getattr(kind, "__name__", None) or str(kind)
    meant = next((hint for attribute, hint in _INSTEAD if hasattr(kind, attribute)), None)
    return SignatureError(f"{name} has no form in a signature", text=str(kind), suggestion=meant)


_INSTEAD = (
    ("model_fields", "write it as a msgspec Struct or a dataclass; pydantic's models come with a dspy.Signature"),
    ("_fields", "write it as a msgspec Struct or a dataclass"),
)
