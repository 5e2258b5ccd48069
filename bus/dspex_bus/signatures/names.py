"""The type names a signature may use. A name that is not here is refused; nothing is ever imported to find out."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .errors import did_you_mean
from .types import SCALARS, Array, Foreign, Mapping, Type

CONTAINERS = {
    name: canonical
    for canonical, names in {
        "list": ("list", "List", "typing.List"),
        "set": ("set", "Set", "typing.Set"),
        "frozenset": ("frozenset", "FrozenSet", "typing.FrozenSet"),
        "tuple": ("tuple", "Tuple", "typing.Tuple"),
        "dict": ("dict", "Dict", "typing.Dict"),
        "Optional": ("Optional", "typing.Optional"),
        "Union": ("Union", "typing.Union"),
        "Literal": ("Literal", "typing.Literal"),
    }.items()
    for name in names
}
"""Every spelling of a name that takes arguments -> the spelling the parser works with."""

_SHORT = {
    "NoneType": "None",
    "typing.Any": "Any",
    "date": "datetime.date",
    "datetime": "datetime.datetime",
    "time": "datetime.time",
    "timedelta": "datetime.timedelta",
    "Decimal": "decimal.Decimal",
    "UUID": "uuid.UUID",
}

DSPY_TYPES = (
    "Audio",
    "Citations",
    "Code",
    "File",
    "History",
    "Image",
    "Reasoning",
    "Tool",
    "ToolCallResults",
    "ToolCalls",
)

CODE = "dspy.Code"
_LANGUAGE = re.compile(r"[\w+#.-]{1,40}", re.ASCII)


def is_language(name: str) -> bool:
    """Whether it may stand in the brackets of ``dspy.Code``."""
    return _LANGUAGE.fullmatch(name) is not None


BARE: dict[str, Type] = {
    **SCALARS,
    **{short: SCALARS[name] for short, name in _SHORT.items()},
    **{name: Array(kind) for name, kind in CONTAINERS.items() if kind in ("list", "set", "frozenset", "tuple")},
    **{name: Mapping() for name, kind in CONTAINERS.items() if kind == "dict"},
    **{f"dspy.{name}": Foreign(f"dspy.{name}") for name in DSPY_TYPES},
}
"""Every type that may stand without arguments, by every spelling."""

_OTHER_LANGUAGES = {
    "string": "str",
    "text": "str",
    "char": "str",
    "integer": "int",
    "long": "int",
    "number": "float",
    "double": "float",
    "boolean": "bool",
    "array": "list",
    "sequence": "list",
    "iterable": "list",
    "object": "dict",
    "map": "dict",
    "mapping": "dict",
    "json": "dict",
    "any": "Any",
    "enum": "Literal",
    "null": "None",
    "image": "dspy.Image",
    "history": "dspy.History",
}

_REFUSED = {
    "bytes": "bytes have no form in a prompt; send text, for example base64, as str",
    "bytearray": "bytes have no form in a prompt; send text, for example base64, as str",
    "complex": "complex numbers have no form in JSON; use two float fields",
    "Annotated": "Annotated is not supported; write the description in quotes after the type",
    "typing.Annotated": "Annotated is not supported; write the description in quotes after the type",
    "Callable": "a function cannot travel in a message",
}


def why_unknown(name: str, known: Iterable[str] = ()) -> tuple[str, str | None]:
    """The reason a type name is refused, and a suggestion or None."""
    if name in _REFUSED:
        return _REFUSED[name], None
    if name in CONTAINERS:
        return f"{name} needs its types in brackets", f"for example {name}[{'...' if name == 'Literal' else 'str'}]"
    meant = _OTHER_LANGUAGES.get(name.rsplit(".", 1)[-1].lower())
    if meant:
        return f"unknown type {name!r}", f"did you mean {meant!r}?"
    reason = f"unknown type {name!r}: only built-in types are known, none is imported"
    return reason, did_you_mean(name, (*BARE, *known))
