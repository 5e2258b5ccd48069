"""The passages in an input field's text, whatever form the caller gave them: JSON, a numbered list, or prose."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

TEXT_KEYS = ("text", "passage", "content", "chunk", "snippet", "long_text", "body", "answer", "summary")
NAME_KEYS = ("source", "path", "title", "name", "url", "document", "doc", "id", "pid")

_NUMBERED = re.compile(r"^\[\d+\] (?:«««\n(.*?)\n»»»|«([^«»\n]*)»)$", re.MULTILINE | re.DOTALL)
_SINGLE = re.compile(r"\A(?:«««\n(.*)\n»»»|«(.*)»)\Z", re.DOTALL)
_LABEL = re.compile(r"\A\[([^\]\n]{1,160})\][ :]*\n?")
_LABELLED_LINES = re.compile(r"^(?=\[[^\]\n]{1,160}\][ :]*\S?)", re.MULTILINE)
_TITLE = re.compile(r"\A([^|\n]{1,120}) \| ")


@dataclass(frozen=True)
class Passage:
    """A piece of given text; ``name`` is what a citation calls it, when the caller named it."""

    text: str
    name: str | None = None


def passages(text: str) -> list[Passage]:
    """The passages of one field's text, in order; prose without labels is split at blank lines."""
    text = text.strip()
    if not text or text == "N/A":
        return []
    value = _json(text)
    if value is not None:
        return _from_json(value)
    quoted = [match.group(1) or match.group(2) or "" for match in _quoted(text)]
    if quoted:
        return [_labelled(item) for item in quoted if item.strip()]
    if _LABEL.match(text):
        return [_labelled(piece) for piece in _LABELLED_LINES.split(text) if piece.strip()]
    return [_labelled(piece) for piece in re.split(r"\n\s*\n", text) if piece.strip()]


def _quoted(text: str) -> list[re.Match[str]]:
    """The items of a list as DSPy prints one for a text field."""
    if text.count("«««\n") > text.count("\n»»»"):
        return []
    alone = _SINGLE.match(text)
    return list(_NUMBERED.finditer(text)) or ([alone] if alone else [])


def _json(text: str) -> Any:
    if text[0] not in "[{":
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None


def _from_json(value: Any) -> list[Passage]:
    """A list gives a passage an item; of an object the field that holds its text, else every field that holds any."""
    if isinstance(value, list):
        return [passage for item in value for passage in _from_json(item)]
    if isinstance(value, dict):
        name = next((str(value[key]) for key in NAME_KEYS if value.get(key) not in (None, "")), None)
        text = next((value[key] for key in TEXT_KEYS if isinstance(value.get(key), str)), None)
        if text is not None:
            return [Passage(text, name)]
        return [
            passage for item in value.values() if isinstance(item, list | dict | str) for passage in _from_json(item)
        ]
    return [_labelled(str(value))] if str(value).strip() else []


def _labelled(text: str) -> Passage:
    text = text.strip()
    label = _LABEL.match(text) or _TITLE.match(text)
    if label is None or not text[label.end() :].strip():
        return Passage(text)
    return Passage(text[label.end() :].strip(), label.group(1).strip())
