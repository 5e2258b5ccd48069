"""What both layouts say about a signature: the type's name, the note on an output, the lists of fields, the demos."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec

from dspex_bus.signatures import Field, Signature, json_schema, limits_text
from dspex_bus.signatures import types as t

from ...errors import InvalidInput
from ...threads import HISTORY
from ..errors import UnsupportedNatively
from .text import show

Message: TypeAlias = dict[str, str]

STRUCTURE = "All interactions will be structured in the following way, with the appropriate values filled in."
_INCOMPLETE = "This is an example of the task, though some input or output fields are not supplied."
NOT_IN_DEMO = "Not supplied for this particular example. "


class Column(msgspec.Struct, frozen=True):
    """A field as a prompt needs it: the header before its value, and whether a list for it is shown numbered."""

    name: str
    header: str
    as_text: bool


class Prompt(msgspec.Struct, frozen=True):
    """Everything in the messages of a signature that does not depend on values."""

    system: str
    inputs: tuple[Column, ...]
    outputs: tuple[Column, ...]
    request: str


Answer: TypeAlias = Callable[[Prompt, Mapping[str, Any], "str | None"], str]
"""The assistant's message for a demo; the text stands for missing fields."""


def columns(fields: Iterable[Field]) -> tuple[Column, ...]:
    return tuple(Column(field.name, f"[[ ## {field.name} ## ]]\n", t.base_of(field.type) == t.STR) for field in fields)


def require_native(signature: Signature) -> None:
    """UnsupportedNatively when the signature has types that only DSPy can handle."""
    if signature.foreign:
        raise UnsupportedNatively(signature.foreign)


def messages(
    prompt: Prompt,
    answer: Answer,
    inputs: Mapping[str, Any],
    demos: Sequence[Mapping[str, Any]],
    turns: Sequence[Mapping[str, Any]] = (),
) -> list[Message]:
    """System, then the demos (incomplete ones first, as DSPy orders them), the turns before, and the request."""
    made = [{"role": "system", "content": prompt.system}]
    if demos:
        _add_demos(made, prompt, answer, demos)
    for turn in turns:
        if any(column.name in turn for column in prompt.inputs):
            made.append({"role": "user", "content": _request(prompt, turn)})
        made.append({"role": "assistant", "content": answer(prompt, turn, None)})
    made.append({"role": "user", "content": _request(prompt, inputs)})
    return made


def _request(prompt: Prompt, values: Mapping[str, Any]) -> str:
    return "\n\n".join([*_shown(prompt.inputs, values), prompt.request]).strip()


@lru_cache(maxsize=1024)
def with_history(signature: Signature) -> Signature:
    """The signature with the input that stands for the turns before, for a prompt to name it."""
    if HISTORY in (*signature.input_names, *signature.output_names):
        raise InvalidInput(f"a step that remembers needs no field {HISTORY!r} in its signature")
    history = Field(HISTORY, t.Foreign("dspy.History"))
    return Signature((*signature.inputs, history), signature.outputs, signature.instructions)


def _shown(fields: tuple[Column, ...], values: Mapping[str, Any]) -> list[str]:
    return [c.header + show(values[c.name], as_text=c.as_text) for c in fields if c.name in values]


def _add_demos(made: list[Message], prompt: Prompt, answer: Answer, demos: Sequence[Mapping[str, Any]]) -> None:
    every = prompt.inputs + prompt.outputs
    complete = []
    for demo in demos:
        if all(demo.get(c.name) is not None for c in every):
            complete.append(demo)
        elif any(c.name in demo for c in prompt.inputs) and any(c.name in demo for c in prompt.outputs):
            said = "\n\n".join([_INCOMPLETE, *_shown(prompt.inputs, demo)]).strip()
            made.append({"role": "user", "content": said})
            made.append({"role": "assistant", "content": answer(prompt, demo, NOT_IN_DEMO)})
    for demo in complete:
        made.append({"role": "user", "content": "\n\n".join(_shown(prompt.inputs, demo)).strip()})
        made.append({"role": "assistant", "content": answer(prompt, demo, None)})


# --- words about fields --------------------------------------------------------------------------


def field_list(fields: Iterable[Field]) -> str:
    """Numbered lines: name, type, description; below it the limits."""
    lines = []
    for number, field in enumerate(fields, 1):
        lines.append(f"{number}. `{field.name}` ({type_name(t.base_of(field.type))}): {_description(field)}")
        if isinstance(field.type, t.Constrained) and (said := limits_text(field.type.limits)):
            lines.append(f"Constraints: {said}")
    return "\n".join(lines).strip()


def _description(field: Field) -> str:
    """DSPy shows a description that only repeats the name as none."""
    said = field.description or ""
    return "" if said == f"${{{field.name}}}" else said


def described_fields(signature: Signature) -> str:
    return (
        f"Your input fields are:\n{field_list(signature.inputs)}\n"
        f"Your output fields are:\n{field_list(signature.outputs)}"
    )


def objective(signature: Signature) -> str:
    instructions = textwrap.dedent(inspect.cleandoc(signature.instructions))
    lines = "\n        ".join(["", *instructions.splitlines()])
    return f"In adhering to this structure, your objective is: {lines}"


def type_name(kind: t.Type) -> str:
    """The type as DSPy names it to a model: ``Union[int, NoneType]`` for an optional int."""
    match kind:
        case t.Scalar(name=name):
            return "NoneType" if name == "None" else name.rsplit(".", 1)[-1]
        case t.Array(kind="tuple", item=item) if item is not None:
            return f"tuple[{type_name(item)}, Ellipsis]"
        case t.Array(kind=name, item=item):
            return name if item is None else f"{name}[{type_name(item)}]"
        case t.FixedTuple(items=items):
            return f"tuple[{', '.join(map(type_name, items))}]"
        case t.Mapping(key=key, value=value):
            return "dict" if key is None or value is None else f"dict[{type_name(key)}, {type_name(value)}]"
        case t.Choice(values=values):
            return (
                f"Literal[{', '.join(_literal(value) if isinstance(value, str) else str(value) for value in values)}]"
            )
        case t.AnyOf(members=members):
            return f"Union[{', '.join(map(type_name, members))}]"
        case t.Constrained(base=base, limits=limits):
            return f"Annotated[{', '.join([type_name(base), *map(_limit_name, limits)])}]"
        case t.Record(name=name):
            return name
        case t.Foreign(name=name):
            return name.rsplit(".", 1)[-1]
    raise UnsupportedNatively([str(kind)])


_LIMIT_NAMES = {
    "ge": "Ge(ge={!r})",
    "gt": "Gt(gt={!r})",
    "le": "Le(le={!r})",
    "lt": "Lt(lt={!r})",
    "multiple_of": "MultipleOf(multiple_of={!r})",
    "min_length": "MinLen(min_length={!r})",
    "max_length": "MaxLen(max_length={!r})",
    "min_items": "MinLen(min_length={!r})",
    "max_items": "MaxLen(max_length={!r})",
    "pattern": "StringConstraints(strip_whitespace=None, to_upper=None, to_lower=None, strict=None, min_length=None, "
    "max_length=None, pattern={!r}, ascii_only=None)",
}


def _limit_name(limit: t.Limit) -> str:
    """A limit inside a type, as Python shows the class that DSPy is given for it."""
    return _LIMIT_NAMES[limit.name].format(limit.value)


def _literal(text: str) -> str:
    if "'" not in text:
        return f"'{text}'"
    if '"' not in text:
        return f'"{text}"'
    escaped = text.replace("'", "\\'")
    return f"'{escaped}'"


def placeholder(field: Field, *, output: bool) -> str:
    """What stands for the field's value in the system message: its name in braces, and for outputs what it must be."""
    note = _must_be(t.base_of(field.type)) if output else ""
    return f"{{{field.name}}}        # note: the value you produce {note}" if note else f"{{{field.name}}}"


def _must_be(kind: t.Type) -> str:
    match kind:
        case t.Scalar(name="str"):
            return ""
        case t.Scalar(name="bool"):
            return "must be True or False"
        case t.Scalar(name="int" | "float" as name):
            return f"must be a single {name} value"
        case t.Choice(values=values):
            return f"must exactly match (no extra characters) one of: {'; '.join(map(str, values))}"
    return f"must adhere to the JSON schema: {json.dumps(json_schema(kind), ensure_ascii=False)}"


def requirement(field: Field) -> str:
    """The reminder of a field's type at the end of a request."""
    kind = t.base_of(field.type)
    return "" if kind == t.STR else f" (must be formatted as a valid Python {type_name(kind)})"
