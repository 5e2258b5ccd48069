"""Search by words: BM25."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from ...errors import SetupError
from .passages import Passage

_WORD = re.compile(r"[^\W_]+")
_COMMON = """
a an and are as at be by can do does for from had has have how i if in into is it its of on or that the their then there
these they this to was what when where which who why will with you your
"""
_STOP = frozenset(_COMMON.split())


class KeywordIndex:
    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = list(passages)
        self._ranking: Any = _bm25s().BM25()
        self._ranking.index([_words(f"{p.title} {p.title} {p.text}") or ["-"] for p in passages], show_progress=False)

    def search(self, query: str, k: int) -> list[Passage]:
        """The best ``k`` passages, best first, with their scores."""
        words = [word for word in _words(query) if word in self._ranking.vocab_dict]
        if not words:
            return []
        scores = self._ranking.get_scores(words)
        ranked = sorted(range(len(self._passages)), key=lambda place: -scores[place])[:k]
        return [
            msgspec.structs.replace(self._passages[place], score=round(float(scores[place]), 4))
            for place in ranked
            if scores[place] > 0
        ]


def _words(text: str) -> list[str]:
    """Lower-case words without the common ones, plural endings taken off."""
    return [_stem(word) for word in _WORD.findall(text.lower()) if word not in _STOP]


def _stem(word: str) -> str:
    for ending, instead in (("ies", "y"), ("sses", "ss"), ("s", "")):
        if word.endswith(ending) and len(word) > 3 + len(ending) - 1 and not word.endswith("ss"):
            return word[: -len(ending)] + instead
    return word


def _bm25s() -> Any:
    try:
        import bm25s
    except ImportError as error:
        raise SetupError("keyword search needs bm25s: pip install 'dspex[search]'") from error
    logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets its own to DEBUG
    return bm25s
