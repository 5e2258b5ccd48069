"""Texts to vectors: fitted on the user's own documents, hashed, or by an embedding model over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

from dspex_bus.errors import InvalidRequest

from ...handlers import Step
from ...lm import EmbeddingClients
from ...lm.embedding import PROVIDER
from ..models import StepPurse
from .vector import needed
from .words import written

LATENT = "latent"
HASHED = "hashed"
_DIMENSIONS = 128
_TERMS = 30_000
"""Words and pairs of words that count, the most frequent ones: more cost minutes and gigabytes, and say little."""
_BATCH = 64
"""Texts in one request: their vectors fit into one message of the cache."""
_AT_ONCE = 8


class Embedder(Protocol):
    """Rows of vectors, one for each text. ``fit`` is for the texts that will be searched, all at once."""

    async def fit(self, texts: Sequence[str], step: Step) -> Any: ...

    async def embed(self, texts: Sequence[str], step: Step) -> Any: ...


def embedder(name: str, clients: EmbeddingClients) -> Embedder:
    """``latent``, ``hashed``, or the name of an embedding model: ``openai/NAME``. Raises InvalidRequest."""
    if name == LATENT:
        return _Local(LatentSemantic())
    if name == HASHED:
        return _Local(Hashed())
    if name.startswith(PROVIDER):
        return Remote(clients, name)
    raise InvalidRequest(
        f"there is no embedder {name!r}; there are: {LATENT}, {HASHED}, and embedding models as openai/NAME",
        code="unknown_embedder",
        details={"embedder": name},
    )


class LatentSemantic:
    """TF-IDF reduced by a truncated singular value decomposition, fitted on the passages. No weights are downloaded."""

    def __init__(self) -> None:
        self._tfidf: Any = None
        self._basis: Any = None

    def fit(self, texts: Sequence[str]) -> Any:
        text = _sklearn("feature_extraction.text")

        def words(one: str) -> list[str]:
            return [word for word in written(one) if len(word) > 1 and word not in text.ENGLISH_STOP_WORDS]

        told = {"sublinear_tf": True, "max_features": _TERMS, "dtype": needed("numpy", "numpy").float32}
        self._tfidf = text.TfidfVectorizer(tokenizer=words, token_pattern=None, ngram_range=(1, 2), **told)
        try:
            counted = self._tfidf.fit_transform(texts)
        except ValueError:  # nothing but stop words
            self._tfidf = text.TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), **told)
            counted = self._tfidf.fit_transform(texts)
        dimensions = min(_DIMENSIONS, *(size - 1 for size in counted.shape))
        if dimensions >= 2:
            svd = _sklearn("decomposition").TruncatedSVD(dimensions, random_state=0).fit(counted)
            # Turned once: scikit-learn would turn it for every query.
            self._basis = needed("numpy", "numpy").ascontiguousarray(svd.components_.T, dtype="float32")
        return self._reduced(counted)

    def embed(self, texts: Sequence[str]) -> Any:
        return self._reduced(self._tfidf.transform(texts))

    def _reduced(self, counted: Any) -> Any:
        return _rows(counted.toarray() if self._basis is None else counted @ self._basis)


class Hashed:
    """Words hashed to a direction each: nothing to fit, and the same vectors everywhere."""

    def fit(self, texts: Sequence[str]) -> Any:
        return self.embed(texts)

    def embed(self, texts: Sequence[str]) -> Any:
        from ...offline_lm.embedding import embed as hashed  # few steps want it, and every worker would import it

        return _rows([hashed(text) for text in texts])


class _Local:
    """An embedder that computes, in the worker's threads."""

    def __init__(self, model: LatentSemantic | Hashed) -> None:
        self._model = model

    async def fit(self, texts: Sequence[str], step: Step) -> Any:
        return await step.in_thread(lambda: self._model.fit(texts))

    async def embed(self, texts: Sequence[str], step: Step) -> Any:
        return await step.in_thread(lambda: self._model.embed(texts))


class Remote:
    """An embedding model. What has a vector keeps it: after a change only the new passages are asked for, and a fit
    that was broken off goes on where it stopped."""

    def __init__(self, clients: EmbeddingClients, model: str) -> None:
        self._clients = clients
        self._model = model
        self._known: dict[bytes, Any] = {}

    async def fit(self, texts: Sequence[str], step: Step) -> Any:
        keys = [_digest(text) for text in texts]
        found = {key: self._known[key] for key in keys if key in self._known}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}

        async def ask(batch: list[tuple[bytes, str]]) -> None:
            vectors = await self.embed([text for _, text in batch], step)
            made = {key: vector for (key, _), vector in zip(batch, vectors, strict=True)}
            found.update(made)
            self._known |= made

        for together in _groups(_groups(list(missing.items()), _BATCH), _AT_ONCE):
            try:
                async with asyncio.TaskGroup() as group:
                    for batch in together:
                        group.create_task(ask(batch))
            except ExceptionGroup as failed:
                raise failed.exceptions[0] from failed
        self._known = found
        return _rows([found[key] for key in keys])

    async def embed(self, texts: Sequence[str], step: Step) -> Any:
        vectors, _ = await self._clients.embed(
            self._model,
            [text if text.strip() else "-" for text in texts],  # models refuse an empty one
            timeout_s=max(0.001, step.remaining_s),
            cache=step.cache,
            purse=StepPurse(step),
        )
        return _rows(vectors)


def _groups(items: list[Any], size: int) -> list[list[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _rows(vectors: Any) -> Any:
    return needed("numpy", "numpy").asarray(vectors, dtype="float32")


def _sklearn(module: str) -> Any:
    return needed(f"sklearn.{module}", "scikit-learn")
