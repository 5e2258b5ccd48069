"""Where a parser is in the words of a signature string, and what it takes from there."""

from __future__ import annotations

import math
from typing import Any, NoReturn

from .errors import SignatureError
from .tokens import locate, tokenise, unquote

MAX_DEPTH = 32
"""Brackets inside brackets in one type, or in one value."""

QUOTES = ("'", '"')
CONSTANTS: dict[str, bool | None] = {"True": True, "False": False, "None": None}


class Cursor:
    __slots__ = ("at", "depth", "text", "words")

    def __init__(self, text: str) -> None:
        self.text = text
        self.words = tokenise(text)
        self.at = 0
        self.depth = 0

    def fail(self, reason: str, at: int, suggestion: str | None = None) -> NoReturn:
        position, length = locate(self.text, at)
        raise SignatureError(reason, text=self.text, position=position, length=length, suggestion=suggestion)

    def another(self, closing: str = "]") -> bool:
        """Whether a comma and one more argument follow; steps over the comma, a trailing one too."""
        if self.words[self.at] != ",":
            return False
        self.at += 1
        return self.words[self.at] != closing

    def more(self, opened: int) -> bool:
        """Like :meth:`another`; where nothing more follows, steps over the closing bracket."""
        word = self.words[self.at]
        if word == "]":
            self.at += 1
            return False
        if word == "," and self.another():
            return True
        self.close(opened)
        return False

    def close(self, opened: int, closing: str = "]") -> None:
        if self.words[self.at] != closing:
            if not self.words[self.at]:
                self.fail("this bracket is never closed", opened)
            self.fail(f"expected ',' or {closing!r}, found {self.words[self.at]!r}", self.at)
        self.at += 1

    def string(self) -> str:
        word = self.words[self.at]
        if len(word) < 2:
            self.fail("this quote is never closed", self.at, "write \\' for a quote inside a text in quotes")
        if "\\" in word:
            try:
                value = unquote(word)
            except (ValueError, OverflowError) as error:
                self.fail(f"this text cannot be read: {error}", self.at, "write \\\\ for a backslash")
        else:
            value = word[1:-1]
        self.at += 1
        return value

    def value(self) -> Any:
        """Of a default."""
        word, at = self.words[self.at], self.at
        if word in ("[", "{"):
            self.depth += 1
            if self.depth > MAX_DEPTH:
                self.fail(f"values are nested more than {MAX_DEPTH} deep", at)
            self.at += 1
            made: Any = self.items() if word == "[" else self.pairs()
            self.close(at, "]" if word == "[" else "}")
            self.depth -= 1
            return made
        if word.startswith(QUOTES):
            return self.string()
        if word in CONSTANTS:
            self.at += 1
            return CONSTANTS[word]
        suggestion = f"put it in quotes: '{word}'" if word.isidentifier() else None
        if word == ">":
            suggestion = "write '->' between the inputs and the outputs"
        return self.number("a default is a text in quotes, a number, True, False, None, a list or a dict", suggestion)

    def items(self) -> list[Any]:
        found: list[Any] = []
        while self.words[self.at] != "]":
            found.append(self.value())
            if not self.another():
                break
        return found

    def pairs(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self.words[self.at] != "}":
            at = self.at
            if not self.words[at].startswith(QUOTES):
                self.fail("the keys of a dict are texts in quotes", at)
            key = self.string()
            if key in found:
                self.fail(f"the key {key!r} is given twice", at)
            if self.words[self.at] != ":":
                self.fail(f"expected ':', found {self.words[self.at]!r}", self.at)
            self.at += 1
            found[key] = self.value()
            if not self.another("}"):
                break
        return found

    def constant(self) -> str | int | bool | None:
        """Of a Literal."""
        word = self.words[self.at]
        if word.startswith(QUOTES):
            return self.string()
        if word in CONSTANTS:
            self.at += 1
            return CONSTANTS[word]
        if word.removeprefix("-").isdecimal() and word.isascii():
            self.at += 1
            return int(word)
        suggestion = f"put it in quotes: '{word}'" if word.isidentifier() else None
        return self.fail("Literal takes strings in quotes, whole numbers, True, False or None", self.at, suggestion)

    def number(self, wanted: str, suggestion: str | None = None) -> int | float:
        word = self.words[self.at]
        made: int | float = 0
        try:
            made = int(word) if word.lstrip("-").replace("_", "").isdecimal() else float(word)
        except ValueError:
            self.fail(f"{wanted}, found {word!r}" if word else wanted, self.at, suggestion)
        if not word.isascii() or not math.isfinite(made) or word.lstrip("-")[:1] not in "0123456789":
            self.fail(f"{wanted}, found {word!r}", self.at, suggestion)
        self.at += 1
        return made
