"""Signature strings to fields, by recursive descent.

    signature   = fields "->" fields
    fields      = field { "," field } [ "," ]
    field       = name [ ":" type ] [ "=" value ] [ string ]
    type        = limited { "|" limited }
    limited     = atom [ "[" limit { "," limit } "]" ]
    atom        = name [ "[" arguments "]" ] | record
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
from collections.abc import Mapping as MappingABC

from .cursor import MAX_DEPTH, QUOTES, Cursor
from .errors import SignatureError
from .faults import RESERVED, checked_name, fail_at_separator, fail_brackets, fail_type
from .limits import why_not
from .names import BARE, CODE, CONTAINERS, is_language
from .tokens import END
from .types import (
    NONE,
    STR,
    Array,
    Constrained,
    Field,
    FixedTuple,
    Foreign,
    Limit,
    Mapping,
    Record,
    Type,
    choice,
    hashable,
    literal,
    optional,
    union,
)
from .values import Mismatch, coercer

MAX_LENGTH = 65_536
"""Characters in a signature string."""
MAX_PARTS = 4096
"""Parts of all types, those of a struct counted wherever its name stands for it."""

_UNUSUAL = RESERVED | set(keyword.kwlist) | {END}
_CONTINUES = ("[", "|", "{")
_FOLLOWS = frozenset({",", "->", END})
"""What follows a field that is a name and a type."""
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


class _Parser(Cursor):
    __slots__ = ("known", "owner", "parts", "sizes")

    def __init__(self, text: str, names: Names | None = None) -> None:
        super().__init__(text)
        self.known = dict(names) if names else {}
        self.parts = 0
        self.sizes: dict[str, int] = {}
        self.owner = "Record"  # what a record without a name is called after

    def signature(self) -> tuple[list[Field], list[Field]]:
        seen: set[str] = set()
        inputs = self.fields("input", seen)
        if self.words[self.at] != "->":
            fail_at_separator(self, "input")
        self.at += 1
        outputs = self.fields("output", seen)
        if self.words[self.at]:
            fail_at_separator(self, "output")
        return inputs, outputs

    def fields(self, side: str, seen: set[str]) -> list[Field]:
        words = self.words
        found: list[Field] = []
        while True:
            word = words[self.at]
            if word in _UNUSUAL or word[0] == "_" or not (word.isidentifier() and word.isascii()):
                if word in ("->", "}", END) and found:
                    break  # after a trailing comma
                word = checked_name(self, side)
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
        words, at = self.words, self.at
        typed = words[at] == ":"
        kind: Type = STR
        if typed:
            start = self.at = at + 1
            self.owner = name
            kind = self.type()
            if kind is NONE:
                self.fail("a field that can only be None says nothing", start, "write X | None for an optional field")
        if words[self.at] in _FOLLOWS:
            return Field(name, kind, None, typed)
        default = self.default(kind, typed) if words[self.at] == "=" else None
        description = (self.string() or None) if words[self.at].startswith(QUOTES) else None
        return Field(name, kind, description, typed, default)

    def default(self, kind: Type, typed: bool) -> str:
        at = self.at = self.at + 1
        value = self.value()
        try:
            coercer(kind if typed else STR)(value)
        except Mismatch as error:
            self.fail(f"the default does not fit its type: {error}", at)
        return literal(value)

    # --- types -----------------------------------------------------------------------------------

    def type(self) -> Type:
        words, at = self.words, self.at
        plain = BARE.get(words[at])
        if plain is not None and words[at + 1] not in _CONTINUES:
            self.at = at + 1  # by far the most types are a single word
            return plain
        first = self.atom()
        if words[self.at] not in _CONTINUES:
            return first
        members = [self.within_limits(first, at)]
        while words[self.at] == "|":
            at = self.at = self.at + 1
            members.append(self.within_limits(self.atom(), at))
        return union(members)

    def within_limits(self, made: Type, at: int) -> Type:
        """The type that began ``at``, with the limits that follow it."""
        while self.words[self.at] == "[" and self.words[self.at + 2] == "=":
            made = self.limited(made, at)
        return made

    def atom(self) -> Type:
        words, at = self.words, self.at
        word, following = words[at], words[at + 1]
        if word == "{" or (following == "{" and word.isidentifier()):
            return self.record()
        self.at = at + 1
        if following != "[" or words[at + 3] == "=":
            self.grow(self.sizes.get(word, 1), at)
            found = BARE.get(word) or self.known.get(word)
            return found if found is not None else fail_type(self, at, self.known)
        if word == CODE:
            return self.code(at)
        name = CONTAINERS.get(word)
        if name is None:
            return fail_brackets(self, at, self.known)
        self.at = at + 2
        self.deeper(at)
        made = self.literal() if name == "Literal" else self.generic(name, at)
        self.depth -= 1
        return made

    def code(self, at: int) -> Type:
        """``dspy.Code["python"]``: the brackets hold a language, and no type."""
        self.at = at + 2
        language = self.string() if self.words[self.at].startswith(QUOTES) else ""
        if not is_language(language):
            self.fail(f"{CODE} takes the name of a language in quotes", at + 2, f'for example {CODE}["python"]')
        self.close(at + 1)
        return Foreign(f'{CODE}["{language}"]')

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
            quoted = self.words[self.at].startswith(QUOTES)
            value = self.string() if quoted else self.number(f"the limit {name} is a number or a text in quotes")
            reason, suggestion = why_not(base, limits, name, value)
            if reason:
                self.fail(reason, start, suggestion)
            limits.append(Limit(name, value))
            if not self.more(opened):
                break
        if isinstance(base, Constrained):
            self.fail("limits go into one pair of brackets", opened)
        return Constrained(base, tuple(limits))

    def record(self) -> Type:
        at = self.at
        named = self.words[at] != "{"
        self.at += 2 if named else 1
        owner, before = self.owner, self.parts
        self.deeper(at)
        description = inspect.cleandoc(self.string()) or None if self.words[self.at].startswith(QUOTES) else None
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
        arguments = [self.type()]
        open_ended = False
        while self.more(at + 1):
            if name == "tuple" and len(arguments) == 1 and self.words[self.at] == "...":
                open_ended = True
                self.at += 1
            else:
                arguments.append(self.type())
        return self.build(name, arguments, open_ended, at)

    def build(self, name: str, arguments: list[Type], open_ended: bool, at: int) -> Type:
        count = len(arguments)
        if name == "list" and count == 1:
            return Array(name, arguments[0])
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
            return optional(arguments[0])
        if name in ("dict", "set", "frozenset") and not hashable(arguments[0]):
            what = "a key" if name == "dict" else "a member of a set"
            self.fail(f"{arguments[0]} cannot be {what}: its values have no hash", at + 2)
        return Mapping(arguments[0], arguments[1]) if name == "dict" else Array(name, arguments[0])

    def literal(self) -> Type:
        opened = self.at - 1
        values = [self.constant()]
        while self.more(opened):
            values.append(self.constant())
        return choice(tuple(values))
