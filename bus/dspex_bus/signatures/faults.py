"""What is wrong with a signature string where the grammar has no way on, and how to say it instead."""

from __future__ import annotations

import keyword
import unicodedata
from collections.abc import Mapping
from typing import NoReturn

from .cursor import Cursor
from .names import BARE, CONTAINERS, why_unknown
from .types import Type

RESERVED = frozenset(
    {"fields", "signature", "instructions", "input_fields", "output_fields", "model_config", "model_fields"}
    | {"model_dump", "model_dump_json", "model_validate", "model_validate_json", "model_validate_strings"}
)
"""Names DSPy cannot use for a field."""

_EXAMPLE = "for example: question -> answer"


def checked_name(here: Cursor, side: str) -> str:
    """The word as a field's name, normalised as Python does; fails when it cannot be one."""
    word = here.words[here.at]
    if word in ("->", "") and side == "input" and "->" not in here.words:
        here.fail("a signature needs '->' between its inputs and its outputs", here.at, _EXAMPLE)
    if word in ("->", "") and side != "struct":
        here.fail(f"a signature needs at least one {side} field", here.at)
    if word in ("*", "**", "/"):
        here.fail(f"{word!r} has no meaning in a signature", here.at, "list each field by its name")
    if word == ",":
        here.fail("a field's name is missing before this comma", here.at)
    name = unicodedata.normalize("NFKC", word)
    if not word.isidentifier():
        here.fail(f"{word!r} cannot name a field", here.at, "use letters, digits and '_', not starting with a digit")
    if name.startswith("_"):
        here.fail("a field's name cannot start with '_'", here.at)
    if keyword.iskeyword(name):
        here.fail(f"{name!r} is a Python keyword and cannot name a field", here.at, f"for example {name}_text")
    if name in RESERVED:
        here.fail(f"{name!r} is reserved and cannot name a field", here.at, f"for example {name}_text")
    return name


def fail_type(here: Cursor, at: int, known: Mapping[str, Type]) -> NoReturn:
    word = here.words[at]
    if word in ("", ",", "->", "]", "|", "[", "}", "="):
        found = repr(word) if word else "the end"
        here.fail(f"a type is missing here, found {found}", at, _CHOICE if word == "[" else None)
    if word[0] in "'\"":
        here.fail("a type is a name, not a text in quotes", at, "a description comes after the type: name: str 'text'")
    if word == "...":
        here.fail("'...' can only follow the one type of a tuple", at, "for example tuple[int, ...]")
    if not word.replace(".", "").isidentifier():
        here.fail(f"{word!r} is not a type", at, _CHOICE if word == "(" else None)
    reason, suggestion = why_unknown(word, known)
    here.fail(reason, at, suggestion)


def fail_brackets(here: Cursor, at: int, known: Mapping[str, Type]) -> NoReturn:
    word = here.words[at]
    if word in BARE or word in known:
        limits = "limits are named: int[ge=0, le=10], str[max_length=80]" if word in ("int", "float", "str") else None
        here.fail(f"{word} takes no types in brackets", at + 1, limits)
    fail_type(here, at, known)


def fail_at_separator(here: Cursor, side: str) -> NoReturn:
    word = here.words[here.at]
    if not word:
        here.fail("a signature needs '->' between its inputs and its outputs", here.at, _EXAMPLE)
    if word == "->":
        here.fail("a signature has one '->'; this is a second one", here.at, "separate fields with commas")
    if word == "]":
        here.fail("this bracket was never opened", here.at)
    missing = "a comma, a colon or '->'" if side == "input" else "a comma, a colon or the end"
    here.fail(f"expected {missing}, found {word!r}", here.at, _meant(here, word))


def _meant(here: Cursor, word: str) -> str | None:
    """What somebody probably wanted to write, who wrote ``word`` after a field."""
    typed = here.words[here.at - 1] in BARE
    if word in _ARROWS:
        return "write '->' between the inputs and the outputs"
    if word == ";":
        return "separate fields with commas"
    if word == "=":
        return "a default comes before the description: name: type = value 'text'"
    if word == "-":
        return "a name has letters, digits and '_', and no '-'"
    if word in ("(", "<") and here.words[here.at - 1] in {*BARE, *CONTAINERS}:
        return "types and limits are in square brackets: list[int], int[ge=0]"
    if word == "?":
        return "an optional field is name: type | None"
    if word in ("or", "/", "and"):
        return "write a choice of types as int | str" if typed else "separate fields with commas"
    if word.isidentifier():
        return "separate fields with commas; a description is in quotes: name: type 'text'"
    return None


_CHOICE = "a choice of values is Literal['a', 'b']"
_ARROWS = frozenset("→⇒⟶➜–—>")
