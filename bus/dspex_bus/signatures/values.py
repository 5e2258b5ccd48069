"""Values to types: validation and coercion in one step, with pydantic's lax rules, so that a value DSPy would accept
for a field is accepted here and becomes an equal value.

A *level* says how much may be changed. A union tries its members at each level in turn, which is how ``int | str``
keeps ``"3"`` a string and ``3`` a number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, assert_never

from .limits import check_of
from .moments import MOMENTS
from .types import AnyOf, Array, Choice, Constrained, Field, FixedTuple, Foreign, Limit, Mapping, Record, Scalar, Type

EXACT, STRICT, LAX = 0, 1, 2
"""The value's own type; a conversion that cannot surprise (int to float); any that makes sense (text to a number)."""

_SHOWN = 60


class Mismatch(ValueError):
    """A value does not fit a type. The text, with the place inside the value, is made only when it is asked for."""

    def __init__(self, expected: str, value: Any) -> None:
        super().__init__(expected)
        self.expected = expected
        self.value = value
        self.place: list[str] = []

    def inside(self, key: Any) -> Mismatch:
        self.place.append(f"[{key!r}]")
        return self

    def __str__(self) -> str:
        shown = repr(self.value)
        shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
        where = f"at {''.join(reversed(self.place))} " if self.place else ""
        return f"{where}expected {self.expected}, got {shown} ({type(self.value).__name__})"


Coercer: TypeAlias = Callable[..., Any]
"""``(value, level=LAX) -> value``, or Mismatch."""


def coercer(kind: Type) -> Coercer:
    """The function that fits values to the type. Build it once for a type; calls are cheap."""
    match kind:
        case Scalar(name=name):
            return _SCALARS[name]
        case Array(kind=name, item=item):
            return _array(name, coercer(item) if item is not None else None, str(kind))
        case FixedTuple(items=items):
            return _fixed_tuple(tuple(map(coercer, items)), str(kind))
        case Mapping(key=key, value=value):
            if key is None or value is None:
                return _bare_mapping
            return _mapping(coercer(key), coercer(value), str(kind))
        case Choice(values=values, text=text):
            return _choice(values, text)
        case AnyOf(members=members):
            return _any_of(tuple(map(coercer, members)), str(kind))
        case Constrained(base=base, limits=limits):
            return _constrained(coercer(base), limits)
        case Record(name=name, fields=fields):
            return _record(name, fields)
        case Foreign():
            return _anything
    assert_never(kind)


# --- scalars -------------------------------------------------------------------------------------


def _anything(value: Any, level: int = LAX) -> Any:
    if level < STRICT:  # in a union, Any comes after a member of the value's own type
        raise Mismatch("a member that says more than Any", value)
    return value


def _none(value: Any, level: int = LAX) -> None:
    if value is not None:
        raise Mismatch("None", value)


def _str(value: Any, level: int = LAX) -> str:
    if isinstance(value, str):
        return value
    raise Mismatch("str", value)


_TRUE = frozenset({"1", "on", "t", "true", "y", "yes"})
_FALSE = frozenset({"0", "off", "f", "false", "n", "no"})


def _bool(value: Any, level: int = LAX) -> bool:
    if value is True or value is False:
        return bool(value)
    if level == LAX:
        word = value.lower() if isinstance(value, str) else None
        if word in _TRUE or (word is None and isinstance(value, int | float) and value == 1):
            return True
        if word in _FALSE or (word is None and isinstance(value, int | float) and value == 0):
            return False
    raise Mismatch("bool", value)


def _int(value: Any, level: int = LAX) -> int:
    if type(value) is int:
        return value
    if level == LAX:
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float) and value.is_integer() and -_WHOLE < value < _WHOLE:
            return int(value)
        if isinstance(value, str):
            return _int_from_text(value)
    raise Mismatch("int", value)


_WHOLE = 2.0**63
"""A float beyond it is no whole number to pydantic."""


def _int_from_text(value: str) -> int:
    """``" 1_000 "`` and ``"3.0"`` are whole numbers; ``"3.5"`` is not."""
    whole, dot, rest = value.strip().partition(".")
    try:
        if (dot and (rest.strip("0") or not rest)) or not whole.isascii() or whole[-1:].isspace():
            raise ValueError
        return int(whole)
    except ValueError:
        raise Mismatch("int", value) from None


def _float(value: Any, level: int = LAX) -> float:
    if type(value) is float:
        return value
    if level >= STRICT and type(value) is int:
        return _checked_float(value)
    if level == LAX and isinstance(value, bool | str):
        return _checked_float(value)
    raise Mismatch("float", value)


def _checked_float(value: Any) -> float:
    try:
        if isinstance(value, str) and not value.strip().isascii():
            raise ValueError
        return float(value)
    except (ValueError, OverflowError):
        raise Mismatch("float", value) from None


def _of(name: str) -> Coercer:
    moment = MOMENTS[name]

    def convert(value: Any, level: int = LAX) -> Any:
        if type(value) is moment.type:
            return value
        if level == LAX and not isinstance(value, bool):
            try:
                return moment.read(value)
            except (ValueError, OverflowError, TypeError, ArithmeticError):
                pass
        raise Mismatch(moment.expected, value)

    return convert


_SCALARS: dict[str, Coercer] = {
    "str": _str,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "Any": _anything,
    "None": _none,
    **{name: _of(name) for name in MOMENTS},
}


# --- containers ----------------------------------------------------------------------------------

_MAKE: dict[str, type] = {"list": list, "set": set, "frozenset": frozenset, "tuple": tuple}
_ITERABLE = (list, tuple, set, frozenset)


def _array(name: str, item: Coercer | None, text: str) -> Coercer:
    make = _MAKE[name]

    def convert(value: Any, level: int = LAX) -> Any:
        if type(value) is not make and not (level == LAX and isinstance(value, _ITERABLE)):
            raise Mismatch(text, value)
        if item is None:
            return _made(make, value, text)
        return _made(make, _each(item, value, level), text)

    return convert


def _made(make: type, values: Any, text: str) -> Any:
    try:
        return values if type(values) is make else make(values)
    except TypeError:
        raise Mismatch(f"{text} of values that have a hash", values) from None


def _each(item: Coercer, values: Any, level: int) -> list[Any]:
    done: list[Any] = []
    try:
        for value in values:
            done.append(item(value, level))
    except Mismatch as mismatch:
        raise mismatch.inside(len(done)) from None
    return done


def _fixed_tuple(items: tuple[Coercer, ...], text: str) -> Coercer:
    def convert(value: Any, level: int = LAX) -> tuple[Any, ...]:
        if type(value) is not tuple and not (level == LAX and isinstance(value, _ITERABLE)):
            raise Mismatch(text, value)
        if len(value) != len(items):
            raise Mismatch(f"{text}, {len(items)} items", value)
        done: list[Any] = []
        try:
            for item, part in zip(items, value, strict=True):
                done.append(item(part, level))
        except Mismatch as mismatch:
            raise mismatch.inside(len(done)) from None
        return tuple(done)

    return convert


def _bare_mapping(value: Any, level: int = LAX) -> dict[Any, Any]:
    if isinstance(value, dict):
        return value
    raise Mismatch("dict", value)


def _mapping(key: Coercer, item: Coercer, text: str) -> Coercer:
    def convert(value: Any, level: int = LAX) -> dict[Any, Any]:
        if not isinstance(value, dict):
            raise Mismatch(text, value)
        done = {}
        for name, part in value.items():
            try:
                done[key(name, level)] = item(part, level)
            except Mismatch as mismatch:
                raise mismatch.inside(name) from None
        return done

    return convert


def _choice(values: tuple[str | int | bool | None, ...], text: str) -> Coercer:
    exactly = {(type(value), value): value for value in values}
    equal = {value: value for value in reversed(values)}

    def convert(value: Any, level: int = LAX) -> Any:
        try:
            return exactly[type(value), value] if (type(value), value) in exactly else equal[value]
        except (KeyError, TypeError):
            raise Mismatch(text, value) from None

    return convert


def _any_of(members: tuple[Coercer, ...], text: str) -> Coercer:
    """The first member that fits with the least change; of objects, the one that has most of the value's keys."""

    def convert(value: Any, level: int = LAX) -> Any:
        for attempt in range(level + 1):
            best: tuple[int, Any] | None = None
            for member in members:
                try:
                    made = member(value, attempt)
                except Mismatch:
                    continue
                if type(made) is not dict or type(value) is not dict:
                    return made
                shared = len(made.keys() & value.keys())
                if best is None or shared > best[0]:
                    best = shared, made
            if best is not None:
                return best[1]
        raise Mismatch(text, value)

    return convert


# --- limits and records --------------------------------------------------------------------------


def _constrained(base: Coercer, limits: tuple[Limit, ...]) -> Coercer:
    checks = tuple(map(check_of, limits))

    def convert(value: Any, level: int = LAX) -> Any:
        made = base(value, level)
        for keeps, says in checks:
            if not keeps(made):
                raise Mismatch(says, made)
        return made

    return convert


def _record(name: str, fields: tuple[Field, ...]) -> Coercer:
    """Objects become dicts with the record's fields, in its order; other keys are dropped, as pydantic does it."""
    readers = tuple((field.name, coercer(field.type) if field.typed else _str, field) for field in fields)

    def convert(value: Any, level: int = LAX) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Mismatch(f"{name}, an object", value)
        made: dict[str, Any] = {}
        for key, read, field in readers:
            if key in value:
                try:
                    made[key] = read(value[key], level)
                except Mismatch as mismatch:
                    raise mismatch.inside(key) from None
            elif field.default is not None:
                made[key] = read(field.default_value)
            else:
                raise Mismatch(f"{name} with {key!r}", value)
        return made

    return convert
