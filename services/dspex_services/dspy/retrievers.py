"""DSPy's retrievers: ColBERTv2, Embeddings and KNN."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import dspy
import msgspec

from ..errors import StepError
from ..handlers import Handlers, Step
from ..lm import EmbeddingClients
from ..lm.embedding import PROVIDER
from ..native.retrieval.colbert import URL, passages, posts
from ..native.retrieval.embedders import Remote
from ..native.retrieval.services import configured
from ..offline_lm.embedding import embed
from .failures import translated
from .options import ColbertInput, EmbeddingsInput, KnnInput
from .programs import Programs

HASHED = "hashed"
_INDEXES_KEPT = 8


def retrievers(programs: Programs) -> Handlers:
    handlers = Handlers()
    indexes = _Indexes()
    clients = EmbeddingClients(programs.models.configured)
    handlers.on_close(clients.close)

    def embedder(name: str, step: Step) -> Any:
        """Blocking, as DSPy wants it: called from a thread."""
        if name == HASHED:
            return dspy.Embedder(lambda texts: [embed(text) for text in texts], caching=False)
        loop = asyncio.get_running_loop()

        remote = Remote(clients, name if name.startswith(PROVIDER) else PROVIDER + name)

        def ask(texts: list[str]) -> Any:
            return asyncio.run_coroutine_threadsafe(remote.embed(texts, step), loop).result()

        return dspy.Embedder(ask, caching=False)

    @handlers.handler("dspy.ColBERTv2", implementation="dspy")
    async def colbert(request: ColbertInput, step: Step) -> dict[str, Any]:
        """Passages from a ColBERTv2 server, best first."""
        url = configured(os.environ, URL, "a ColBERTv2 server's search address")
        client = dspy.ColBERTv2(url, post_requests=posts(os.environ))
        found = await _guarded(step, lambda: client(request.query, k=request.k))
        return {"passages": msgspec.to_builtins(passages(found)), "hits": [dict(hit) for hit in found]}

    @handlers.handler("dspy.Embeddings", implementation="dspy")
    async def embeddings(request: EmbeddingsInput, step: Step) -> dict[str, Any]:
        """The texts nearest to a query, best first, with their places and scores."""
        make = embedder(request.embedder, step)

        def search() -> dict[str, Any]:
            index = indexes.get((request.embedder, request.corpus), lambda: _index(request.corpus, make))
            found = index(request.query)
            return {name: list(getattr(found, name))[: request.k] for name in ("passages", "indices", "scores")}

        return await step.in_thread(search)

    @handlers.handler("dspy.KNN", implementation="dspy")
    async def knn(request: KnnInput, step: Step) -> dict[str, Any]:
        """The examples nearest to a query, nearest first: demos for a step that follows."""
        make = embedder(request.embedder, step)
        fields = list(request.query)

        def search() -> dict[str, Any]:
            trainset = [dspy.Example(**example).with_inputs(*fields) for example in request.trainset]
            near = dspy.KNN(min(request.k, len(trainset)), trainset, make)
            return {"examples": [dict(example) for example in near(**request.query)]}

        return await step.in_thread(search)

    return handlers


class _Indexes:
    """The last few corpora, embedded."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Any] = OrderedDict()

    def get(self, content: Any, make: Callable[[], Any]) -> Any:
        key = hashlib.blake2b(msgspec.json.encode(content), digest_size=16).hexdigest()
        if key not in self._kept:
            self._kept[key] = make()
            while len(self._kept) > _INDEXES_KEPT:
                self._kept.popitem(last=False)
        return self._kept[key]


def _index(corpus: list[str], embedder: Any) -> Any:
    if not corpus:
        raise StepError("the corpus is empty", code="invalid_input")
    return _Searchable(corpus, embedder, k=len(corpus))


class _Searchable(dspy.retrievers.EmbeddingsWithScores):  # type: ignore[misc]
    """Without DSPy's batching thread, which outlives its index."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        batching: Any = self.search_fn
        batching.close()
        self.search_fn: Any = lambda query: self._batch_forward([query])[0]


async def _guarded(step: Step, function: Callable[[], Any]) -> Any:
    import requests

    try:
        with translated():
            return await step.in_thread(function)
    except (requests.RequestException, ValueError) as error:
        raise StepError(f"the search service failed: {error}", code="search_unavailable", retryable=True) from error
