"""What a chat prompt asks for: DSPy's ChatAdapter, JSONAdapter and XMLAdapter layouts, or plain text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .media import told
from .schema import Schema, schema_of

Style = Literal["chat", "json", "xml", "plain"]

_HEADER = re.compile(r"^\[\[ ## (\w+) ## \]\][ \t]*\n?", re.MULTILINE)
_FIELD = re.compile(r"^\d+\. `(\w+)` \((.*?)\):[ ]?(.*(?:\n(?!\d+\. `).*)*)", re.MULTILINE)
_NOTE = re.compile(r"\{(\w+)\} {8}# note: the value you produce (.*)")
_NUMBERED_TAG = re.compile(r"^<(\w+_\d+)>\n(.*?)\n</\1>", re.MULTILINE | re.DOTALL)
_OBJECTIVE = "your objective is:"
_TAILS: tuple[tuple[Style, str], ...] = (
    ("xml", "Respond with the corresponding output fields wrapped in XML tags"),
    ("chat", "Respond with the corresponding output fields"),
    ("json", "Respond with a JSON object in the following order of fields"),
)
_TAIL_FIELD = re.compile(
    r"`(?:\[\[ ## |<)?(\w+)(?: ## \]\]|>)?`(?: \(must be formatted as a valid Python (.*?)\)(?=, |\.))?"
)


@dataclass(frozen=True)
class OutputField:
    name: str
    schema: Schema
    description: str = ""


@dataclass(frozen=True)
class Prompt:
    """``inputs`` are the last turn's, as text. ``examples`` are the earlier assistant turns, as text."""

    style: Style
    inputs: Mapping[str, str]
    outputs: tuple[OutputField, ...] = ()
    instructions: str = ""
    examples: tuple[str, ...] = field(default=())


def read_prompt(messages: Sequence[Mapping[str, Any]]) -> Prompt:
    """The prompt in a list of chat messages; anything not laid out as an adapter does is plain."""
    system = "\n\n".join(_text(message) for message in messages if message.get("role") in ("system", "developer"))
    users = [_text(message) for message in messages if message.get("role") == "user"]
    user = users[-1] if users else ""
    style, body, tail = _cut_tail(user)
    examples = tuple(_text(message) for message in messages if message.get("role") == "assistant")
    if style == "plain":
        return Prompt(style, {"text": user.strip()}, instructions=system, examples=examples)
    head, _, instructions = system.partition(_OBJECTIVE)
    described_inputs, described_outputs = _described(head)
    sections = _tagged(body, described_inputs) if style == "xml" else _sections(body, described_inputs)
    if not sections and len(users) > 1:  # what was said before is asked for once more
        sections = _sections(_cut_tail(users[-2])[1], described_inputs)
    outputs = _outputs(tail, described_outputs, _notes(head, style))
    return Prompt(style, sections, outputs, re.sub(r"^ {8}", "", instructions, flags=re.M).strip(), examples)


def sections_of(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The fields of every user turn, whatever they are called, without the closing request."""
    users = [_text(message) for message in messages if message.get("role") == "user"]
    return [_sections(_cut_tail(text)[1], ()) for text in users]


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(told(part) for part in content if isinstance(part, Mapping))


def _cut_tail(user: str) -> tuple[Style, str, str]:
    """The layout, what stands before the closing request, and the request itself."""
    for style, opening in _TAILS:
        at = user.rfind(opening)
        if at >= 0:
            return style, user[:at], user[at:]
    return "plain", user, ""


def _described(head: str) -> tuple[list[str], dict[str, tuple[str, str]]]:
    """Names of the inputs; type and description of the outputs by name."""
    head = head.partition("All interactions will be structured")[0]
    inputs, _, outputs = head.partition("Your output fields are:")
    found = {name: (kind, text.strip()) for name, kind, text in _FIELD.findall(outputs)}
    return [name for name, _, _ in _FIELD.findall(inputs)], found


def _notes(head: str, style: Style) -> dict[str, str]:
    if style != "json":
        return dict(_NOTE.findall(head))
    _, _, shape = head.partition("Outputs will be a JSON object with the following fields.")
    try:
        return {name: str(note) for name, note in json.JSONDecoder().raw_decode(shape.strip())[0].items()}
    except (ValueError, AttributeError):
        return {}


def _sections(body: str, known: Sequence[str]) -> dict[str, str]:
    """Text by field. An agent's trajectory holds headers of its own: only known fields, in their order, open one."""
    opened: list[tuple[str, int, int]] = []
    rest = list(known)
    for match in _HEADER.finditer(body):
        name = match.group(1)
        if not known or name in rest:
            opened.append((name, match.start(), match.end()))
            rest = rest[rest.index(name) + 1 :] if known else rest
    ends = [*(start for _, start, _ in opened[1:]), len(body)][: len(opened)]
    return {name: body[begin:end].strip() for (name, _, begin), end in zip(opened, ends, strict=True)}


def _tagged(body: str, known: Iterable[str]) -> dict[str, str]:
    found = {name: re.search(rf"<{name}>\n(.*?)\n</{name}>", body, re.DOTALL) for name in known}
    return {name: _as_sections(match.group(1)).strip() for name, match in found.items() if match}


def _as_sections(text: str) -> str:
    """A trajectory's numbered tags as the headers that the chat layout gives them."""
    return _NUMBERED_TAG.sub(r"[[ ## \1 ## ]]\n\2", text)


def _outputs(tail: str, described: Mapping[str, tuple[str, str]], notes: Mapping[str, str]) -> tuple[OutputField, ...]:
    asked = {name: kind for name, kind in _TAIL_FIELD.findall(tail) if name != "completed"}
    found = []
    for name, kind in asked.items():
        annotation, description = described.get(name, (kind or "str", ""))
        found.append(OutputField(name, schema_of(annotation, notes.get(name, "")), description))
    return tuple(found)
