"""A reply's text, piece by piece, told apart by output field. Pure.

What a text field's pieces add up to is what the field's value will be. Other fields come as the model writes them. What
may yet be part of a header is held back, and so is white space that may be a field's last.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Literal, NamedTuple, Protocol

Layout = Literal["chat", "json", "xml", "plain"]


class Piece(NamedTuple):
    field: str
    text: str


class FieldReader(Protocol):
    def feed(self, text: str) -> list[Piece]:
        """What the text adds to the fields."""

    def end(self) -> list[Piece]:
        """What was held back."""


def reader_of(layout: Layout, fields: Collection[str]) -> FieldReader:
    """For one reply in that layout, as DSPy's adapters know them; ``plain`` is all of the one field, or of none."""
    match layout:
        case "chat":
            return ChatFields(fields)
        case "json":
            return JsonFields(fields)
        case "xml":
            return XmlFields(fields)
        case "plain":
            return PlainText(next(iter(fields), ""))


class _Trimmed:
    """A field's text without white space at its ends."""

    def __init__(self, field: str) -> None:
        self.field = field
        self._begun = False
        self._space = ""

    def add(self, text: str) -> list[Piece]:
        if not self._begun:
            text = text.lstrip()
        whole = self._space + text
        said = whole.rstrip()
        self._space = whole[len(said) :]
        if not said:
            return []
        self._begun = True
        return [Piece(self.field, said)]

    def end_header(self) -> None:
        """White space at the end of the header's own line is no part of the field."""
        self._space = ""


class PlainText:
    def __init__(self, field: str) -> None:
        self._field = field

    def feed(self, text: str) -> list[Piece]:
        return [Piece(self._field, text)] if text else []

    def end(self) -> list[Piece]:
        return []


_BREAK = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_OPEN, _CLOSE = "[[ ## ", " ## ]]"
_NAME = re.compile(r"\w+")


class ChatFields:
    """Sections under ``[[ ## field ## ]]``, each header on a line of its own; of two with one name the first counts."""

    def __init__(self, fields: Collection[str]) -> None:
        self._wanted = set(fields)
        self._field: _Trimmed | None = None
        self._line: str | None = ""
        self._in_header = False
        self._return = ""

    def feed(self, text: str) -> list[Piece]:
        text = self._return + text
        self._return = "\r" if text.endswith("\r") else ""
        lines = _BREAK.sub("\n", text[: len(text) - len(self._return)]).split("\n")
        found = self._add(lines[0])
        for line in lines[1:]:
            found += self._break()
            found += self._add(line)
        return found

    def end(self) -> list[Piece]:
        return self._flush()

    def _add(self, text: str) -> list[Piece]:
        if self._line is None:
            return self._said(text)
        self._line += text
        if not self._may_be_header(self._line):
            return self._flush()
        header = self._line.lstrip()
        closed = header.find(_CLOSE)
        if closed < 0:
            return []
        name = header[len(_OPEN) : closed]
        self._line, self._in_header = None, True
        self._field = _Trimmed(name) if name in self._wanted else None
        self._wanted.discard(name)
        return self._said(header[closed + len(_CLOSE) :])

    def _may_be_header(self, line: str) -> bool:
        line = line.lstrip()
        if not line.startswith(_OPEN):
            return _OPEN.startswith(line)
        rest = line[len(_OPEN) :]
        name = _NAME.match(rest)
        if name is None:
            return not rest
        tail = rest[name.end() :]
        return tail.startswith(_CLOSE) or _CLOSE.startswith(tail)

    def _flush(self) -> list[Piece]:
        held, self._line = self._line, None
        return self._said(held) if held else []

    def _break(self) -> list[Piece]:
        found = self._flush()
        if self._in_header and self._field is not None:
            self._field.end_header()
        self._in_header = False
        found += self._said("\n")
        self._line = ""
        return found

    def _said(self, text: str) -> list[Piece]:
        return self._field.add(text) if self._field is not None and text else []


_ESCAPED = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_HIGH = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}")


class JsonFields:
    """The members of the first JSON object in the text; the text of strings, anything else as it is written."""

    def __init__(self, fields: Collection[str]) -> None:
        self._wanted = set(fields)
        self._text = ""
        self._state: Literal["before", "key", "colon", "value", "string", "other", "after"] = "before"
        self._field: _Trimmed | None = None
        self._depth = 0
        self._quoted = False
        self._escaped = False

    def feed(self, text: str) -> list[Piece]:
        self._text += text
        found: list[Piece] = []
        while self._text and self._step(found):
            pass
        return found

    def end(self) -> list[Piece]:
        return []

    def _step(self, found: list[Piece]) -> bool:
        """Take something off the text; False where more of it is needed."""
        match self._state:
            case "before":
                return self._skip_to("{", "key")
            case "key":
                return self._key()
            case "colon":
                return self._skip_to(":", "value")
            case "value":
                return self._value()
            case "string":
                return self._string(found)
            case "other":
                return self._other(found)
        self._text = ""
        return False

    def _skip_to(self, mark: str, then: Literal["key", "value"]) -> bool:
        _, there, self._text = self._text.partition(mark)
        if there:
            self._state = then
        return bool(there)

    def _key(self) -> bool:
        place = self._text.find('"')
        closed = self._text.find("}")
        if closed >= 0 and (place < 0 or closed < place):
            self._state = "after"
            return True
        end = self._text.find('"', place + 1)
        if place < 0 or end < 0:
            return False
        name, self._text = self._text[place + 1 : end], self._text[end + 1 :]
        self._field = _Trimmed(name) if name in self._wanted else None
        self._wanted.discard(name)
        self._state = "colon"
        return True

    def _value(self) -> bool:
        self._text = self._text.lstrip()
        if self._text.startswith('"'):
            self._state, self._text = "string", self._text[1:]
        elif self._text:
            self._state, self._depth, self._quoted = "other", 0, False
        return bool(self._text)

    def _string(self, found: list[Piece]) -> bool:
        said = []
        while self._text:
            ends = [place for mark in '"\\' if (place := self._text.find(mark)) >= 0]
            plain = min(ends, default=len(self._text))
            said.append(self._text[:plain])
            self._text = self._text[plain:]
            if self._text.startswith('"'):
                self._text, self._state = self._text[1:], "key"
                break
            escaped = self._escape()
            if escaped is None:
                break
            said.append(escaped)
        text = "".join(said)
        if text and self._field is not None:
            found.append(Piece(self._field.field, text))
        return self._state == "key"

    def _escape(self) -> str | None:
        """The character that an escape at the front stands for; None where more of it is needed, or there is none."""
        first = _ESCAPED.match(self._text)
        if first is None:
            return None
        taken = first[0]
        if _HIGH.fullmatch(taken):
            second = _ESCAPED.match(self._text, first.end())
            if second is None:
                return None
            taken += second[0]
        self._text = self._text[len(taken) :]
        return str(json.loads(f'"{taken}"')).encode("utf-8", "replace").decode()

    def _other(self, found: list[Piece]) -> bool:
        for place, char in enumerate(self._text):
            if self._quoted:
                self._quoted = self._escaped or char != '"'
                self._escaped = not self._escaped and char == "\\"
            elif char == '"':
                self._quoted = True
            elif char in "[{":
                self._depth += 1
            elif char in ",}" and self._depth == 0:
                self._tell(self._text[:place], found)
                self._text, self._state = self._text[place:], "key"
                return True
            elif char in "]}":
                self._depth -= 1
        self._tell(self._text, found)
        self._text = ""
        return False

    def _tell(self, text: str, found: list[Piece]) -> None:
        if self._field is not None:
            found += self._field.add(text)


_ENTITIES = {"&lt;": "<", "&gt;": ">", "&amp;": "&", "&quot;": '"', "&apos;": "'"}


class XmlFields:
    """What is between ``<field>`` and ``</field>``."""

    def __init__(self, fields: Collection[str]) -> None:
        self._wanted = set(fields)
        self._text = ""
        self._field: _Trimmed | None = None

    def feed(self, text: str) -> list[Piece]:
        self._text += text
        found: list[Piece] = []
        while self._step(found):
            pass
        return found

    def end(self) -> list[Piece]:
        return []

    def _step(self, found: list[Piece]) -> bool:
        if self._field is None:
            return self._open()
        close = f"</{self._field.field}>"
        inside, closed, after = self._text.partition(close)
        if not closed:
            inside, after = _held(self._text, [close, *_ENTITIES])
        for entity, char in _ENTITIES.items():
            inside = inside.replace(entity, char)
        found += self._field.add(inside)
        self._text = after
        if closed:
            self._field = None
        return bool(closed)

    def _open(self) -> bool:
        places = [(place, name) for name in self._wanted if (place := self._text.find(f"<{name}>")) >= 0]
        if not places:
            longest = max((len(name) + 2 for name in self._wanted), default=0)
            self._text = self._text[-longest:] if longest else ""
            return False
        place, name = min(places)
        self._text = self._text[place + len(name) + 2 :]
        self._field = _Trimmed(name)
        self._wanted.discard(name)
        return True


def _held(text: str, marks: list[str]) -> tuple[str, str]:
    """The text in two: what is certain, and an end that may be the beginning of one of the marks."""
    for size in range(min(len(text), max(map(len, marks)) - 1), 0, -1):
        if any(mark.startswith(text[-size:]) for mark in marks):
            return text[:-size], text[-size:]
    return text, ""
