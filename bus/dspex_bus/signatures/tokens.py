"""The words of a signature string.

Only their texts are kept while parsing; where a word stands is found again when an error needs it, which keeps the
common case, a correct signature, cheap.
"""

from __future__ import annotations

import re

END = ""

# What comes most often comes first. Nothing here begins with white space, that of str.isspace: the search for the next
# word steps over it.
_PATTERN = r"""
        [a-zA-Z_][\w.]*                      # a name, dotted or not
      | [,:\[\]|={}]
      | ->
      | '[^'\\]*(?:\\.[^'\\]*)*'
      | "[^"\\]*(?:\\.[^"\\]*)*"
      | -?\d\w*(?:\.\w*)?(?:(?<=[eE])[+-]\d+)?  # a number; the parser says what is wrong with it
      | [^\W\d][\w.]*                        # a name that begins with a letter of another script
      | \.\.\.
      | \*\*
      | [^\s\x1c-\x1f]                       # a word of its own: the parser says what is wrong with it
    """
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
            return match.start(), len(match.group())
    return len(text.rstrip()), 1


def unquote(word: str) -> str:
    """What a quoted word says. Raises ValueError on an escape that is not known."""
    return _ESCAPE.sub(_unescape, word[1:-1])


def _unescape(match: re.Match[str]) -> str:
    digits = match[1] or match[2] or match[3]
    if digits:
        return chr(int(digits, 16))
    try:
        return _SIMPLE_ESCAPES[match[4]]
    except KeyError:
        raise ValueError(f"unknown escape \\{match[4]}") from None
