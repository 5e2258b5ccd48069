"""Search by words: BM25."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from ...errors import SetupError
from .passages import Passage
from .words import terms


class KeywordIndex:
    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = list(passages)
        self._ranking: Any = _bm25s().BM25()
        self._ranking.index([terms(f"{p.title} {p.title} {p.text}") or ["-"] for p in passages], show_progress=False)

    def search(self, query: str, k: int) -> list[Passage]:
        """The best ``k`` passages, best first, with their scores."""
        words = [word for word in terms(query) if word in self._ranking.vocab_dict]
        if not words:
            return []
        scores = self._ranking.get_scores(words)
        ranked = (-scores).argsort(kind="stable")[:k]
        return [
            msgspec.structs.replace(self._passages[place], score=round(float(scores[place]), 4))
            for place in ranked
            if scores[place] > 0
        ]


def _bm25s() -> Any:
    try:
        import bm25s
    except ImportError as error:
        raise SetupError("keyword search needs bm25s: pip install 'dspex[search]'") from error
    logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets its own to DEBUG
    return bm25s
