"""Search by meaning: the passages whose vectors lie nearest to the query's."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ...errors import SetupError
from .passages import Passage

EXACT = 16_000_000
"""Numbers in all vectors up to which a query is held against every one, in a few milliseconds: 125,000 passages of 128
dimensions, or 10,000 of 1,536. Above, a graph is searched (HNSW), which finds nearly all of the nearest."""


class VectorIndex:
    """By cosine. ``vectors`` is a matrix with a row for each passage."""

    def __init__(self, passages: Sequence[Passage], vectors: Any, *, exact: int = EXACT) -> None:
        self._passages = list(passages)
        self._numpy: Any = needed("numpy", "numpy")
        lengths = self._numpy.linalg.norm(vectors, axis=1, keepdims=True)
        self._vectors = vectors / self._numpy.where(lengths > 0, lengths, 1)
        self._graph: Any = None
        if vectors.size > exact:
            self._graph = needed("usearch.index", "usearch").Index(ndim=vectors.shape[1], metric="cos", dtype="f32")
            self._graph.add(range(len(self._passages)), self._vectors)

    def search(self, vector: Any, k: int) -> list[Passage]:
        """The best ``k`` passages, best first, with their scores: 1 for the same direction; none at a right angle."""
        length = self._numpy.linalg.norm(vector)
        if not length or not self._passages:
            return []
        return [
            msgspec.structs.replace(self._passages[int(place)], score=rounded)
            for place, score in self._nearest(vector / length, min(k, len(self._passages)))
            if (rounded := round(float(score), 4)) > 0
        ]

    def _nearest(self, vector: Any, k: int) -> Iterable[tuple[Any, Any]]:
        if self._graph is not None:
            found = self._graph.search(vector, k)
            return zip(found.keys, 1 - found.distances, strict=True)
        scores = self._vectors @ vector
        places = self._numpy.argpartition(-scores, k - 1)[:k] if k < len(scores) else self._numpy.arange(k)
        places = places[self._numpy.lexsort((places, -scores[places]))]
        return zip(places, scores[places], strict=True)


def needed(module: str, package: str) -> Any:
    """A module of the extra that searches need. Raises SetupError."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SetupError(f"vector search needs {package}: pip install 'dspex[search]'") from error
