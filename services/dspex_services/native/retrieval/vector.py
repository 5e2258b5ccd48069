"""Search by meaning: latent semantic vectors fitted on the user's own documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from ...errors import SetupError
from .documents import Passage

_DIMENSIONS = 128


class Embedder(Protocol):
    """Texts to vectors of unit length, one row each."""

    def embed(self, texts: Sequence[str]) -> Any: ...


class LatentSemantic:
    """TF-IDF reduced by a truncated singular value decomposition, fitted on the passages. No weights are downloaded."""

    def __init__(self, texts: Sequence[str]) -> None:
        text = _sklearn("sklearn.feature_extraction.text")
        self._normalize = _sklearn("sklearn.preprocessing").normalize
        self._tfidf = text.TfidfVectorizer(sublinear_tf=True, stop_words="english", ngram_range=(1, 2))
        try:
            counted = self._tfidf.fit_transform(texts)
        except ValueError:  # nothing but stop words
            self._tfidf = text.TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3))
            counted = self._tfidf.fit_transform(texts)
        self._svd: Any = None
        dimensions = min(_DIMENSIONS, *(size - 1 for size in counted.shape))
        if dimensions >= 2:
            self._svd = _sklearn("sklearn.decomposition").TruncatedSVD(dimensions, random_state=0).fit(counted)

    def embed(self, texts: Sequence[str]) -> Any:
        vectors = self._tfidf.transform(texts)
        vectors = vectors.toarray() if self._svd is None else self._svd.transform(vectors)
        return self._normalize(vectors)


class VectorIndex:
    """Exact nearest neighbours by cosine."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        texts = [f"{passage.title}\n{passage.text}" for passage in passages]
        self._passages = list(passages)
        self._embedder: Embedder = LatentSemantic(texts)
        self._neighbours = _sklearn("sklearn.neighbors").NearestNeighbors(metric="cosine", algorithm="brute")
        self._neighbours.fit(self._embedder.embed(texts))

    def search(self, query: str, k: int) -> list[Passage]:
        vector = self._embedder.embed([query])
        if not vector.any():
            return []
        distances, places = self._neighbours.kneighbors(vector, n_neighbors=min(k, len(self._passages)))
        return [
            msgspec.structs.replace(self._passages[place], score=round(1 - float(distance), 4))
            for distance, place in zip(distances[0], places[0], strict=True)
        ]


def _sklearn(module: str) -> Any:
    try:
        import importlib

        return importlib.import_module(module)
    except ImportError as error:
        raise SetupError("vector search needs scikit-learn: pip install 'dspex[search]'") from error
