"""Several lists of passages as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from .passages import Passage

_DAMPING = 60


def fuse(lists: Sequence[Sequence[Passage]], k: int, weights: Sequence[float] = ()) -> list[Passage]:
    """Reciprocal-rank fusion, which needs no common scale of scores: the best ``k`` over all lists; a passage in
    several of them rises. A list counts by its weight, one where none is given."""
    given = _weighed(lists, weights)
    ranks = (
        (passage, weight / (_DAMPING + rank + 1)) for passages, weight in given for rank, passage in enumerate(passages)
    )
    return _summed(ranks, k)


def blend(lists: Sequence[Sequence[Passage]], k: int, weights: Sequence[float] = ()) -> list[Passage]:
    """By scores, each list's as shares of its best one: a list that is sure of one passage is heard."""
    shares = (
        (passage, weight * passage.score / passages[0].score)
        for passages, weight in _weighed(lists, weights)
        for passage in passages
        if passages[0].score > 0
    )
    return _summed(shares, k)


def best(lists: Iterable[Sequence[Passage]], k: int) -> list[Passage]:
    """Lists of one search, for several queries: each passage at its best score."""
    found: dict[str, Passage] = {}
    for passage in (passage for passages in lists for passage in passages):
        held = found.get(passage.id)
        if held is None or held.score < passage.score:
            found[passage.id] = passage
    return sorted(found.values(), key=lambda passage: (-passage.score, passage.id))[:k]


def _weighed(lists: Sequence[Sequence[Passage]], weights: Sequence[float]) -> list[tuple[Sequence[Passage], float]]:
    return list(zip(lists, weights or [1.0] * len(lists), strict=True))


def _summed(scored: Iterable[tuple[Passage, float]], k: int) -> list[Passage]:
    scores: dict[str, float] = {}
    held: dict[str, Passage] = {}
    for passage, score in scored:
        scores[passage.id] = scores.get(passage.id, 0.0) + score
        held.setdefault(passage.id, passage)
    ranked = sorted((id for id in scores if scores[id] > 0), key=lambda id: (-scores[id], id))[:k]
    return [msgspec.structs.replace(held[id], score=round(scores[id], 5)) for id in ranked]
