"""The layout of DSPy's ChatAdapter: values under ``[[ ## field ## ]]`` headers, both ways."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from dspex_bus.signatures import Signature

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
from .reply import completed, readers
from .text import show

_COMPLETED = "[[ ## completed ## ]]"
_HEADER = re.compile(r"\[\[ ## (\w+) ## \]\][^\S\n]*([^\n]*)")


def chat_messages(
    signature: Signature,
    inputs: Mapping[str, Any],
    demos: Sequence[Mapping[str, Any]] = (),
    turns: Sequence[Mapping[str, Any]] | None = None,
) -> list[Message]:
    """The messages DSPy's ChatAdapter would send, as dicts of ``role`` and ``content``.

    Inputs that are not there are left out, as in DSPy; validate them before. A demo maps field names to values, and
    one without any input or any output is dropped. ``turns`` are those of a conversation, as DSPy's History holds
    them; None where there is none. Raises UnsupportedNatively.
    """
    require_native(signature)
    if turns is None:
        return messages(_prompt(signature), _answer, inputs, demos)
    return messages(_prompt(with_history(signature)), _answer, inputs, demos, turns)


def chat_request(signature: Signature) -> str:
    """The last words of the messages: which fields to answer with, and how."""
    return _prompt(signature).request


def parse_chat_reply(signature: Signature, text: str) -> dict[str, Any]:
    """The output values in a reply. Raises ReplyError for fields that are missing or do not fit their type."""
    read = readers(signature)
    values: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for name, said in _sections(text):
        if name in read and name not in values and name not in faults:
            try:
                values[name] = read[name](said)
            except ValueError as error:
                faults[name] = str(error)
    return completed(signature, "chat", text, values, faults)


def _sections(text: str) -> list[tuple[str, str]]:
    """Each header's name with the text below it, in order; what stands before the first header is dropped."""
    text = "\n".join(text.splitlines())
    found: list[tuple[str, str]] = []
    name = said = ""
    end = 0
    for match in _HEADER.finditer(text):  # a search for its first letters is many times one for each line's beginning
        start = match.start()
        if start and text[start - 1] != "\n" and text[text.rfind("\n", 0, start) + 1 : start].strip():
            continue  # amid a line
        if name:
            found.append((name, (said.rstrip() + text[end:start]).strip()))
        name, said = match.groups()
        end = match.end()
    return [*found, (name, (said.rstrip() + text[end:]).strip())] if name else found


@lru_cache(maxsize=1024)
def _prompt(signature: Signature) -> Prompt:
    fields = [
        *(f"[[ ## {field.name} ## ]]\n{placeholder(field, output=False)}" for field in signature.inputs),
        *(f"[[ ## {field.name} ## ]]\n{placeholder(field, output=True)}" for field in signature.outputs),
    ]
    structure = "\n\n".join([STRUCTURE, *fields, _COMPLETED])
    asked = ", then ".join(f"`[[ ## {field.name} ## ]]`{requirement(field)}" for field in signature.outputs)
    return Prompt(
        system=f"{described_fields(signature)}\n{structure}\n{objective(signature)}",
        inputs=columns(signature.inputs),
        outputs=columns(signature.outputs),
        request=f"Respond with the corresponding output fields, starting with the field {asked}, "
        f"and then ending with the marker for `{_COMPLETED}`.",
    )


def _answer(prompt: Prompt, demo: Mapping[str, Any], missing: str | None) -> str:
    shown = [c.header + show(demo.get(c.name, missing), as_text=c.as_text) for c in prompt.outputs]
    return "\n\n".join(shown).strip() + f"\n\n{_COMPLETED}\n"
