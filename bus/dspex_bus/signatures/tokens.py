"""The words of a signature string.

Only their texts are kept while parsing; where a word stands is found again when an error needs it, which keeps the
common case, a correct signature, cheap.
"""

from __future__ import annotations

import re

END = ""

# What comes most often comes first. White space is that of str.isspace.
_PATTERN = r"""[\s\x1c-\x1f]*(
        [^\W\d][\w.]*                        # a name, dotted or not
      | [^\w\s\x1c-\x1f'"\-.*]               # a word of its own: the parser says what is wrong with it, if anything
      | ->
      | '[^'\\]*(?:\\.[^'\\]*)*'
      | "[^"\\]*(?:\\.[^"\\]*)*"
      | -?\d\w*(?:\.\w*)?(?:(?<=[eE])[+-]\d+)?  # a number; the parser says what is wrong with it
      | \.\.\.
      | \*\*
      | [^\s\x1c-\x1f]
    )"""
_TOKEN = re.compile(_PATTERN, re.VERBOSE | re.DOTALL)
_ASCII_TOKEN = re.compile(_PATTERN, re.VERBOSE | re.DOTALL | re.ASCII)  # a quarter faster

_SIMPLE_ESCAPES = {"\\": "\\", "'": "'", '"': '"', "n": "\n", "r": "\r", "t": "\t"}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)


def tokenise(text: str) -> list[str]:
    """The words in order, ended by ``END`` twice, so that a parser may look one word ahead without checking."""
    words: list[str] = (_ASCII_TOKEN if text.isascii() else _TOKEN).findall(text)
    words += (END, END)
    return words


def locate(text: str, index: int) -> tuple[int, int]:
    """Offset and length of the word at ``index``; the end of the text for the end marks."""
    for number, match in enumerate(_TOKEN.finditer(text)):
        if number == index:
            return match.start(1), len(match.group(1))
    return len(text.rstrip()), 1


def unquote(word: str) -> str:
    """What a quoted word says. Raises ValueError on an escape that is not known."""
    inner = word[1:-1]
    return _ESCAPE.sub(_unescape, inner) if "\\" in inner else inner


def _unescape(match: re.Match[str]) -> str:
    digits = match[1] or match[2] or match[3]
    if digits:
        return chr(int(digits, 16))
    try:
        return _SIMPLE_ESCAPES[match[4]]
    except KeyError:
        raise ValueError(f"unknown escape \\{match[4]}") from None
