"""The searches that a native pool offers. All of them answer with passages, best first."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from dspex_bus.errors import InvalidRequest

from ..handlers import Handlers, Step
from .retrieval import Passage, Passages
from .retrieval.colbert import colbert
from .retrieval.documents import Corpus, Document, Folder, Given
from .retrieval.library import Library, Manner
from .retrieval.merging import fuse
from .retrieval.passages import WORDS, chunks, shown
from .retrieval.services import SearchClient
from .retrieval.web import web_provider

MOST = 100
K = Annotated[int, msgspec.Meta(ge=1, le=MOST, description="How many passages at most")]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """``query``, or several ``queries`` at once, for the best ``k`` passages of the documents in ``folder``, a path
    below what the pool's operator has opened; or of ``documents``: texts, or objects with ``text``, ``source`` and
    ``title``."""

    query: str | None = None
    queries: list[str] = []
    folder: str | None = None
    documents: list[str | Document] | None = None
    k: K = 5


class VectorQuery(Query, frozen=True, kw_only=True):
    """``embedder`` is ``latent`` (fitted on the documents), ``hashed``, or an embedding model as ``openai/NAME``."""

    embedder: str = "latent"


class HybridQuery(VectorQuery, frozen=True, kw_only=True):
    """Both searches are merged by ``rank`` or by ``score``; ``weight`` is the share of the search by meaning."""

    fuse: Literal["rank", "score"] = "rank"
    weight: Share = 0.5


class ServiceQuery(msgspec.Struct, frozen=True, kw_only=True):
    query: str
    k: K = 5


class ColbertQuery(ServiceQuery, frozen=True, kw_only=True):
    k: K = 10


class WebQuery(ServiceQuery, frozen=True, kw_only=True):
    """``provider`` is ``searxng``, ``brave`` or ``google``; without it the operator's environment decides."""

    provider: str | None = None


class Merge(msgspec.Struct, frozen=True, kw_only=True):
    """Up to four lists of passages; ``k`` are kept."""

    first: list[Passage]
    second: list[Passage] = []
    third: list[Passage] = []
    fourth: list[Passage] = []
    k: K = 6


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    """``texts`` are the passages as a prompt shows them, each with its source and heading before it."""

    passages: list[Passage]
    texts: list[str]


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """A ``text`` to cut into chunks of at most ``words`` words, each beginning with the last ``overlap`` words of the
    one before."""

    text: str
    words: Annotated[int, msgspec.Meta(ge=1)] = WORDS
    overlap: Annotated[int, msgspec.Meta(ge=0)] = 0


class Chunks(msgspec.Struct, frozen=True, kw_only=True):
    chunks: list[str]


def searches(library: Library, client: SearchClient) -> Handlers:
    handlers = Handlers()
    handlers.on_close(client.close)

    async def search(request: Query, manner: Manner, step: Step) -> Passages:
        queries = queries_of(request.query, request.queries)
        corpus = await step.in_thread(lambda: corpus_of(request.folder, request.documents))
        return Passages(passages=await library.search(corpus, queries, request.k, manner, step))

    @handlers.handler("vector_search")
    async def vector_search(request: VectorQuery, step: Step) -> Passages:
        """The passages of documents that are nearest in meaning."""
        return await search(request, Manner(method="vector", embedder=request.embedder), step)

    @handlers.handler("keyword_search")
    async def keyword_search(request: Query, step: Step) -> Passages:
        """The passages of documents that have the query's words (BM25)."""
        return await search(request, Manner(method="keyword"), step)

    @handlers.handler("hybrid_search")
    async def hybrid_search(request: HybridQuery, step: Step) -> Passages:
        """Passages found by words and by meaning, merged."""
        manner = Manner(method="hybrid", embedder=request.embedder, fuse=request.fuse, weight=request.weight)
        return await search(request, manner, step)

    @handlers.handler("colbert_search")
    async def colbert_search(request: ColbertQuery, step: Step) -> Passages:
        """Passages from a ColBERTv2 server, at the operator's DSPEX_COLBERT_URL."""
        return Passages(passages=await client.look_up(colbert, request.query, request.k, timeout_s=step.remaining_s))

    @handlers.handler("web_search")
    async def web_search(request: WebQuery, step: Step) -> Passages:
        """Passages from the web: SearXNG, Brave or Google, as the operator configures."""
        provider = web_provider(request.provider, client.environment)
        return Passages(passages=await client.look_up(provider, request.query, request.k, timeout_s=step.remaining_s))

    @handlers.handler("merge_passages", pure=True)
    async def merge_passages(request: Merge) -> Merged:
        """Several lists of passages as one, the best first, each passage once."""
        merged = fuse([request.first, request.second, request.third, request.fourth], request.k)
        return Merged(passages=merged, texts=[shown(passage) for passage in merged])

    @handlers.handler("chunk", pure=True)
    def chunk(request: Whole) -> Chunks:
        """A long text in chunks, to map over."""
        if request.overlap >= request.words:
            raise InvalidRequest("'overlap' must be below 'words'", code="invalid_input")
        return Chunks(chunks=chunks(request.text, request.words, request.overlap))

    return handlers


def queries_of(query: str | None, queries: list[str]) -> list[str]:
    """What is searched for, each once. Raises InvalidRequest where that is nothing."""
    given = [*([query] if query is not None else []), *queries]
    found = list(dict.fromkeys(text for text in given if text.strip()))
    if not found:
        what = "a search needs 'query', or 'queries'" if not given else "the query is empty"
        raise InvalidRequest(what, code="invalid_input" if given else "missing_field")
    return found


def corpus_of(folder: str | None, documents: list[str | Document] | None) -> Corpus:
    """What is searched. Raises InvalidRequest unless it is one of the two."""
    if (folder is None) == (documents is None):
        raise InvalidRequest("a search needs 'folder', or 'documents', and not both", code="missing_field")
    return Given(documents) if documents is not None else Folder(folder or "")
