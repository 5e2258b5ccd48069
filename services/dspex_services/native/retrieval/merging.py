"""Several lists of passages as one: reciprocal-rank fusion, which needs no common scale of scores."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .documents import Passage

_DAMPING = 60


def fuse(lists: Sequence[Sequence[Passage]], k: int) -> list[Passage]:
    """The best ``k`` over all lists; a passage in several of them rises."""
    scores: dict[str, float] = {}
    held: dict[str, Passage] = {}
    for passages in lists:
        for rank, passage in enumerate(passages):
            scores[passage.id] = scores.get(passage.id, 0.0) + 1 / (_DAMPING + rank + 1)
            held.setdefault(passage.id, passage)
    ranked = sorted(scores, key=lambda id: (-scores[id], id))[:k]
    return [msgspec.structs.replace(held[id], score=round(scores[id], 5)) for id in ranked]
