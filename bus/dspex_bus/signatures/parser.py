"""Signature strings to fields, by recursive descent.

    signature   = fields "->" fields
    fields      = field { "," field } [ "," ]
    field       = name [ ":" type ] [ "=" value ] [ string ]
    type        = atom { "|" atom }
    atom        = ( name [ "[" arguments "]" ] | record ) [ "[" limit { "," limit } "]" ]
    record      = [ name ] "{" [ string ] fields "}"
    limit       = name "=" ( number | string )
    value       = string | number | True | False | None | "[" values "]" | "{" string ":" value … "}"

What DSPy's parser accepts and then drops or changes in silence (starred names, names given twice, an empty side,
``a: None``) is refused with the reason. A record without a name is called after its field; a record's name stands for
it from there on.
"""

from __future__ import annotations

import inspect
import keyword
import math
import unicodedata
from collections.abc import Mapping as MappingABC
from typing import Any, NoReturn

from .errors import SignatureError
from .limits import why_not
from .names import BARE, CONTAINERS, why_unknown
from .tokens import END, locate, tokenise, unquote
from .types import (
    NONE,
    STR,
    Array,
    Constrained,
    Field,
    FixedTuple,
    Limit,
    Mapping,
    Record,
    Type,
    choice,
    hashable,
    literal,
    union,
)
from .values import Mismatch, coercer

MAX_LENGTH = 65_536
"""Characters in a signature string."""
MAX_DEPTH = 32
"""Brackets inside brackets in one type."""
MAX_PARTS = 4096
"""Parts of all types, those of a struct counted wherever its name stands for it."""

RESERVED = frozenset(
    {"fields", "signature", "instructions", "input_fields", "output_fields", "model_config", "model_fields"}
    | {"model_dump", "model_dump_json", "model_validate", "model_validate_json", "model_validate_strings"}
)
"""Names DSPy cannot use for a field."""

_UNUSUAL = RESERVED | set(keyword.kwlist) | {END}
_CONTINUES = ("[", "|", "{")
_QUOTES = ("'", '"')
_CONSTANTS: dict[str, bool | None] = {"True": True, "False": False, "None": None}

_EXAMPLE = "for example: question -> answer"

Names = MappingABC[str, Type]
"""Type names that a caller has registered, and what they stand for."""


def parse_fields(text: str, names: Names | None = None) -> tuple[list[Field], list[Field]]:
    """The input fields and the output fields of a signature string, or SignatureError."""
    return _Parser(_bounded(text), names).signature()


def parse_type(text: str, names: Names | None = None) -> Type:
    """The type in a text such as ``list[int] | None``, or SignatureError."""
    parser = _Parser(_bounded(text), names)
    kind = parser.type()
    if parser.words[parser.at]:
        parser.fail(f"expected the end, found {parser.words[parser.at]!r}", parser.at)
    return kind


def _bounded(text: str) -> str:
    if len(text) > MAX_LENGTH:
        raise SignatureError(f"a signature has at most {MAX_LENGTH} characters, this has {len(text)}", text=text)
    return text


class _Parser:
    __slots__ = ("at", "depth", "known", "owner", "parts", "sizes", "text", "words")

    def __init__(self, text: str, names: Names | None = None) -> None:
        self.text = text
        self.words = tokenise(text)
        self.at = 0
        self.depth = 0
        self.known = dict(names or {})
        self.parts = 0
        self.sizes: dict[str, int] = {}
        self.owner = "Record"  # what a record without a name is called after

    def signature(self) -> tuple[list[Field], list[Field]]:
        seen: set[str] = set()
        inputs = self.fields("input", seen)
        if self.words[self.at] != "->":
            self.fail_at_separator("input")
        self.at += 1
        outputs = self.fields("output", seen)
        if self.words[self.at]:
            self.fail_at_separator("output")
        return inputs, outputs

    def fields(self, side: str, seen: set[str]) -> list[Field]:
        words = self.words
        found: list[Field] = []
        while True:
            word = words[self.at]
            if word in _UNUSUAL or word[0] == "_" or not (word.isidentifier() and word.isascii()):
                if word in ("->", "}", END) and found:
                    break  # after a trailing comma
                word = self.checked_name(side)
            if word in seen:
                self.fail(f"the field {word!r} is given twice", self.at, "inputs and outputs need names of their own")
            seen.add(word)
            self.at += 1
            found.append(self.rest_of_field(word))
            if words[self.at] != ",":
                break
            self.at += 1
        return found

    def rest_of_field(self, name: str) -> Field:
        words = self.words
        typed = words[self.at] == ":"
        kind: Type = STR
        if typed:
            self.at += 1
            start = self.at
            self.owner = name
            kind = self.type()
            if kind is NONE:
                self.fail("a field that can only be None says nothing", start, "write X | None for an optional field")
        default = self.default(kind, typed) if words[self.at] == "=" else None
        description = (self.string() or None) if words[self.at].startswith(_QUOTES) else None
        return Field(name, kind, description, typed, default)

    def default(self, kind: Type, typed: bool) -> str:
        at = self.at = self.at + 1
        value = self.value()
        try:
            coercer(kind if typed else STR)(value)
        except Mismatch as error:
            self.fail(f"the default does not fit its type: {error}", at)
        return literal(value)

    def value(self) -> Any:
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
        if word.startswith(_QUOTES):
            return self.string()
        if word in _CONSTANTS:
            self.at += 1
            return _CONSTANTS[word]
        suggestion = f"put it in quotes: '{word}'" if word.isidentifier() else None
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
            if not self.words[at].startswith(_QUOTES):
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

    def number(self, wanted: str, suggestion: str | None = None) -> int | float:
        word = self.words[self.at]
        made: int | float = 0
        try:
            made = int(word) if word.lstrip("-").isdecimal() else float(word)
        except ValueError:
            self.fail(f"{wanted}, found {word!r}" if word else wanted, self.at, suggestion)
        if not word.isascii() or not math.isfinite(made) or word.lstrip("-")[:1] not in "0123456789":
            self.fail(f"{wanted}, found {word!r}", self.at, suggestion)
        self.at += 1
        return made

    # --- types -----------------------------------------------------------------------------------

    def type(self) -> Type:
        words, at = self.words, self.at
        plain = BARE.get(words[at])
        if plain is not None and words[at + 1] not in _CONTINUES:
            self.at = at + 1  # by far the most types are a single word
            return plain
        first = self.atom()
        if self.words[self.at] != "|":
            return first
        members = [first]
        while self.words[self.at] == "|":
            self.at += 1
            members.append(self.atom())
        return union(members)

    def atom(self) -> Type:
        at = self.at
        made = self.unlimited()
        while self.words[self.at] == "[" and self.words[self.at + 2] == "=":
            made = self.limited(made, at)
        return made

    def unlimited(self) -> Type:
        at = self.at
        word = self.words[at]
        if word == "{" or (self.words[at + 1] == "{" and word.isidentifier()):
            return self.record()
        self.at = at + 1
        if self.words[at + 1] != "[" or self.words[at + 3] == "=":
            self.grow(self.sizes.get(word, 1), at)
            found = BARE.get(word) or self.known.get(word)
            return found if found is not None else self.fail_type(at)
        name = CONTAINERS.get(word)
        if name is None:
            return self.fail_brackets(at)
        self.at = at + 2
        self.deeper(at)
        made = self.literal() if name == "Literal" else self.generic(name, at)
        self.depth -= 1
        return made

    def grow(self, parts: int, at: int) -> None:
        self.parts += parts
        if self.parts > MAX_PARTS:
            self.fail(f"the types have more than {MAX_PARTS} parts", at)

    def deeper(self, at: int) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"types are nested more than {MAX_DEPTH} deep", at)

    def limited(self, base: Type, at: int) -> Type:
        opened = self.at
        self.at += 1
        limits: list[Limit] = []
        while True:
            start = self.at
            name = self.words[start]
            if self.words[start + 1] != "=":
                self.fail(f"expected a limit such as {name or 'ge'}=1, found {name!r}", start)
            self.at += 2
            quoted = self.words[self.at].startswith(_QUOTES)
            value = self.string() if quoted else self.number(f"the limit {name} is a number or a text in quotes")
            reason, suggestion = why_not(base, limits, name, value)
            if reason:
                self.fail(reason, start, suggestion)
            limits.append(Limit(name, value))
            if not self.another():
                break
        self.close(opened)
        if isinstance(base, Constrained):
            self.fail("limits go into one pair of brackets", opened)
        return Constrained(base, tuple(limits))

    def record(self) -> Type:
        at = self.at
        named = self.words[at] != "{"
        self.at += 2 if named else 1
        owner, before = self.owner, self.parts
        self.deeper(at)
        description = inspect.cleandoc(self.string()) or None if self.words[self.at].startswith(_QUOTES) else None
        if self.words[self.at] == "}":
            self.fail("a struct needs at least one field", self.at)
        fields = tuple(self.fields("struct", set()))
        self.close(at + named, "}")
        self.depth -= 1
        self.owner = owner
        self.grow(len(fields), at)
        made = self.named(self.words[at], fields, description, at) if named else self.unnamed(fields, description)
        self.sizes[made.name] = self.parts - before
        return made

    def named(self, name: str, fields: tuple[Field, ...], description: str | None, at: int) -> Record:
        if name in BARE or name in CONTAINERS or keyword.iskeyword(name) or not name.isascii():
            self.fail(f"{name!r} cannot name a struct", at, f"for example {name.capitalize()}Record")
        made = Record(name, fields, description)
        if self.known.setdefault(name, made) != made:
            self.fail(f"there are two different types called {name!r}", at, "give one of them another name")
        return made

    def unnamed(self, fields: tuple[Field, ...], description: str | None) -> Record:
        """``shipping_address: {…}`` is a ShippingAddress."""
        called = "".join(part.capitalize() for part in self.owner.split("_")) or "Record"
        called = f"{called}Record" if called in BARE or called in CONTAINERS else called
        number = 1
        while True:
            name = called if number == 1 else f"{called}{number}"
            made = Record(name, fields, description)
            if self.known.setdefault(name, made) == made:
                return made
            number += 1

    def generic(self, name: str, at: int) -> Type:
        arguments: list[Type] = []
        open_ended = False
        while True:
            if name == "tuple" and len(arguments) == 1 and self.words[self.at] == "...":
                open_ended = True
                self.at += 1
            else:
                arguments.append(self.type())
            if not self.another():
                break
        self.close(at + 1)
        return self.build(name, arguments, open_ended, at)

    def build(self, name: str, arguments: list[Type], open_ended: bool, at: int) -> Type:
        count = len(arguments)
        if name == "Union":
            return union(arguments)
        if name == "tuple":
            if open_ended and count > 1:
                self.fail("'...' can only follow the one type of a tuple", at)
            return Array("tuple", arguments[0]) if open_ended else FixedTuple(tuple(arguments))
        if count != (2 if name == "dict" else 1):
            wanted = "two types, of its keys and its values" if name == "dict" else "one type"
            self.fail(f"{name} takes {wanted}, not {count}", at)
        if name == "Optional":
            return union([arguments[0], NONE])
        if name in ("dict", "set", "frozenset") and not hashable(arguments[0]):
            what = "a key" if name == "dict" else "a member of a set"
            self.fail(f"{arguments[0]} cannot be {what}: its values have no hash", at + 2)
        return Mapping(arguments[0], arguments[1]) if name == "dict" else Array(name, arguments[0])

    def literal(self) -> Type:
        opened = self.at - 1
        values: list[str | int | bool | None] = []
        while True:
            values.append(self.constant())
            if not self.another():
                break
        self.close(opened)
        return choice(tuple(values))

    def constant(self) -> str | int | bool | None:
        word = self.words[self.at]
        if word.startswith(_QUOTES):
            return self.string()
        if word in _CONSTANTS:
            self.at += 1
            return _CONSTANTS[word]
        if word.removeprefix("-").isdecimal() and word.isascii():
            self.at += 1
            return int(word)
        suggestion = f"put it in quotes: '{word}'" if word.isidentifier() else None
        return self.fail("Literal takes strings in quotes, whole numbers, True, False or None", self.at, suggestion)

    def another(self, closing: str = "]") -> bool:
        """Whether a comma and one more argument follow; steps over the comma, a trailing one too."""
        if self.words[self.at] != ",":
            return False
        self.at += 1
        return self.words[self.at] != closing

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
        try:
            value = unquote(word)
        except (ValueError, OverflowError) as error:
            self.fail(f"this text cannot be read: {error}", self.at, "write \\\\ for a backslash")
        self.at += 1
        return value

    # --- what is wrong ---------------------------------------------------------------------------

    def fail(self, reason: str, at: int, suggestion: str | None = None) -> NoReturn:
        position, length = locate(self.text, at)
        raise SignatureError(reason, text=self.text, position=position, length=length, suggestion=suggestion)

    def checked_name(self, side: str) -> str:
        """The word as a field's name, normalised as Python does; fails when it cannot be one."""
        word = self.words[self.at]
        if word in ("->", "") and side == "input" and "->" not in self.words:
            self.fail("a signature needs '->' between its inputs and its outputs", self.at, _EXAMPLE)
        if word in ("->", "") and side != "struct":
            self.fail(f"a signature needs at least one {side} field", self.at)
        if word in ("*", "**", "/"):
            self.fail(f"{word!r} has no meaning in a signature", self.at, "list each field by its name")
        if word == ",":
            self.fail("a field's name is missing before this comma", self.at)
        name = unicodedata.normalize("NFKC", word)
        if not word.isidentifier():
            self.fail(
                f"{word!r} cannot name a field", self.at, "use letters, digits and '_', not starting with a digit"
            )
        if name.startswith("_"):
            self.fail("a field's name cannot start with '_'", self.at)
        if keyword.iskeyword(name):
            self.fail(f"{name!r} is a Python keyword and cannot name a field", self.at, f"for example {name}_text")
        if name in RESERVED:
            self.fail(f"{name!r} is reserved and cannot name a field", self.at, f"for example {name}_text")
        return name

    def fail_type(self, at: int) -> NoReturn:
        word = self.words[at]
        if word in ("", ",", "->", "]", "|", "[", "}", "="):
            found = repr(word) if word else "the end"
            self.fail(f"a type is missing here, found {found}", at)
        if word[0] in "'\"":
            self.fail(
                "a type is a name, not a text in quotes", at, "a description comes after the type: name: str 'text'"
            )
        if word == "...":
            self.fail("'...' can only follow the one type of a tuple", at, "for example tuple[int, ...]")
        if not word.replace(".", "").isidentifier():
            self.fail(f"{word!r} is not a type", at)
        reason, suggestion = why_unknown(word, self.known)
        self.fail(reason, at, suggestion)

    def fail_brackets(self, at: int) -> NoReturn:
        word = self.words[at]
        if word in BARE or word in self.known:
            self.fail(f"{word} takes no types in brackets", at + 1)
        self.fail_type(at)

    def fail_at_separator(self, side: str) -> NoReturn:
        word = self.words[self.at]
        if not word:
            self.fail("a signature needs '->' between its inputs and its outputs", self.at, _EXAMPLE)
        if word == "->":
            self.fail("a signature has one '->'; this is a second one", self.at, "separate fields with commas")
        if word == "]":
            self.fail("this bracket was never opened", self.at)
        missing = "a comma, a colon or '->'" if side == "input" else "a comma, a colon or the end"
        self.fail(f"expected {missing}, found {word!r}", self.at)
