"""The layout of DSPy's JSONAdapter: inputs under headers, outputs as one JSON object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from dspex_bus.signatures import Signature

from ..errors import ReplyError
from .layout import (
    STRUCTURE,
    Message,
    Prompt,
    columns,
    described_fields,
    messages,
    objective,
    placeholder,
    require_native,
    requirement,
    with_history,
)
from .reply import completed, from_json, typed_readers
from .text import indented_json


def json_messages(
    signature: Signature,
    inputs: Mapping[str, Any],
    demos: Sequence[Mapping[str, Any]] = (),
    turns: Sequence[Mapping[str, Any]] | None = None,
) -> list[Message]:
    """Like :func:`.chat.chat_messages`, in the layout of DSPy's JSONAdapter."""
    require_native(signature)
    if turns is None:
        return messages(_prompt(signature), _answer, inputs, demos)
    return messages(_prompt(with_history(signature)), _answer, inputs, demos, turns)


def json_request(signature: Signature) -> str:
    return _prompt(signature).request


def parse_json_reply(signature: Signature, text: str) -> dict[str, Any]:
    """The output values in a reply that holds a JSON object, fenced, damaged or amid other words.

    Raises ReplyError."""
    found = from_json(text)
    if not isinstance(found, dict) and (inner := _object_in(text)) is not None:
        found = from_json(inner)
    if not isinstance(found, dict):
        raise ReplyError("JSON", text, missing=signature.output_names)
    values: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for name, read in typed_readers(signature).items():
        if name in found:
            try:
                values[name] = read(found[name])
            except ValueError as error:
                faults[name] = str(error)
    return completed(signature, "JSON", text, values, faults)


def _object_in(text: str) -> str | None:
    """The first stretch of the text that is in balanced braces, or None."""
    opened: list[int] = []
    first: tuple[int, int] | None = None
    for at, char in enumerate(text):
        if char == "{":
            opened.append(at)
        elif char == "}" and opened:
            start = opened.pop()
            if first is None or start < first[0]:
                first = (start, at + 1)
            if not opened:
                break
    return None if first is None else text[first[0] : first[1]]


@lru_cache(maxsize=1024)
def _prompt(signature: Signature) -> Prompt:
    inputs = "\n\n".join(f"[[ ## {f.name} ## ]]\n{placeholder(f, output=False)}" for f in signature.inputs)
    outputs = indented_json({field.name: placeholder(field, output=True) for field in signature.outputs})
    structure = "\n\n".join(
        [
            STRUCTURE,
            "Inputs will have the following structure:",
            inputs,
            "Outputs will be a JSON object with the following fields.",
            outputs,
        ]
    )
    asked = ", then ".join(f"`{field.name}`{requirement(field)}" for field in signature.outputs)
    return Prompt(
        system=f"{described_fields(signature)}\n{structure}\n{objective(signature)}",
        inputs=columns(signature.inputs),
        outputs=columns(signature.outputs),
        request=f"Respond with a JSON object in the following order of fields: {asked}.",
    )


def _answer(prompt: Prompt, demo: Mapping[str, Any], missing: str | None) -> str:
    return indented_json({c.name: demo.get(c.name, missing) for c in prompt.outputs})
