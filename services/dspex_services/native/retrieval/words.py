"""Words of any script, for searching and for measuring: scripts that put no blanks between words count by character."""

from __future__ import annotations

import re
from functools import cache

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\u0e00-\u0eff\U00020000-\U0002ffff"
_COMMON = """
a an and are as at be by can do does for from had has have how i if in into is it its of on or that the their then there
these they this to was what when where which who why will with you your
"""
_STOP = frozenset(_COMMON.split())


# Compiled at first use: that takes milliseconds, for which no worker waits that does not search.


@cache
def _tokens() -> re.Pattern[str]:
    return re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")


@cache
def _runs() -> re.Pattern[str]:
    return re.compile(rf"[{_UNSPACED}]+|[^\W_{_UNSPACED}]+")


@cache
def _unspaced() -> re.Pattern[str]:
    return re.compile(rf"[{_UNSPACED}]")


def spans(text: str) -> list[tuple[int, int]]:
    """Where each word is, as it is counted."""
    return [match.span() for match in _tokens().finditer(text)]


def count(text: str) -> int:
    return sum(1 for _ in _tokens().finditer(text))


def written(text: str) -> list[str]:
    """The words in lower case; of scripts without blanks each pair of neighbouring characters."""
    found: list[str] = []
    unspaced = _unspaced()
    for run in _runs().findall(text.lower()):
        if unspaced.match(run):
            found += [run[place : place + 2] for place in range(max(1, len(run) - 1))]
        else:
            found.append(run)
    return found


def terms(text: str) -> list[str]:
    """The words without the common ones, plural endings taken off."""
    return [_stem(word) for word in written(text) if word not in _STOP]


def _stem(word: str) -> str:
    for ending, instead in (("ies", "y"), ("sses", "ss"), ("s", "")):
        if word.endswith(ending) and len(word) > 3 + len(ending) - 1 and not word.endswith("ss"):
            return word[: -len(ending)] + instead
    return word
