"""Types as Python annotations: what a worker hands to DSPy, so that DSPy's own parser never sees a signature string."""

from __future__ import annotations

import datetime
import decimal
import typing
import uuid
from collections.abc import Callable
from typing import Any, TypeAlias, assert_never

from .types import AnyOf, Array, Choice, Constrained, FixedTuple, Foreign, Mapping, Record, Scalar, Type

_SCALARS: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "Any": Any,
    "None": type(None),
    "datetime.date": datetime.date,
    "datetime.datetime": datetime.datetime,
    "datetime.time": datetime.time,
    "datetime.timedelta": datetime.timedelta,
    "decimal.Decimal": decimal.Decimal,
    "uuid.UUID": uuid.UUID,
}
_ARRAYS: dict[str, Any] = {"list": list, "set": set, "frozenset": frozenset, "tuple": tuple}


Special: TypeAlias = "Foreign | Constrained | Record"


def annotation(kind: Type, special: Callable[[Special], Any]) -> Any:
    """The type as Python writes it. ``special`` gives the annotation of what Python has no form of its own for: a class
    for a name such as ``dspy.Image``, limits, and records."""

    def of(part: Type) -> Any:
        return annotation(part, special)

    match kind:
        case Scalar(name=name):
            return _SCALARS[name]
        case Array(kind=name, item=None):
            return _ARRAYS[name]
        case Array(kind="tuple", item=item) if item is not None:
            return _ARRAYS["tuple"][of(item), ...]
        case Array(kind=name, item=item) if item is not None:
            return _ARRAYS[name][of(item)]
        case FixedTuple(items=items):
            return _ARRAYS["tuple"][tuple(map(of, items))]
        case Mapping(key=key, value=value):
            return dict if key is None or value is None else dict[of(key), of(value)]  # type: ignore[misc]
        case Choice(values=values):
            return typing.Literal[values]
        case AnyOf(members=members):
            return typing.Union[tuple(map(of, members))]  # noqa: UP007
        case Foreign() | Constrained() | Record():
            return special(kind)
        case Array():
            raise AssertionError("an Array has an item or it has none")
    assert_never(kind)
