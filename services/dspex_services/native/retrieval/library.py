"""What has been searched, with its indexes, kept until a document changes. Used from one event loop."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from ...handlers import Step
from ...lm import EmbeddingClients
from .documents import Corpus
from .embedders import LATENT, Embedder, Remote, embedder
from .keyword import KeywordIndex
from .merging import best, blend, fuse
from .passages import Passage
from .vector import VectorIndex

_KEPT = 16
_DEEPER = 3
"""How many times ``k`` each search of a hybrid one is asked for: what both know a little of may be the best."""

Method = Literal["keyword", "vector", "hybrid"]
T = TypeVar("T")


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    """How to search. A hybrid search fuses both lists by ``rank`` or by ``score``; ``weight`` is the vectors' share."""

    method: Method = "hybrid"
    embedder: str = LATENT
    fuse: Literal["rank", "score"] = "rank"
    weight: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5


class Library:
    """The last few corpora. Equal first searches wait for one build; those of other corpora do not wait for it."""

    def __init__(self, clients: EmbeddingClients) -> None:
        self._clients = clients
        self._shelves: OrderedDict[Hashable, _Shelf] = OrderedDict()

    async def search(self, corpus: Corpus, queries: Sequence[str], k: int, manner: Manner, step: Step) -> list[Passage]:
        """The best ``k`` passages over all queries. Raises what reading the documents or embedding them raises."""
        shelf = await self._shelf(corpus, step)
        if not await shelf.passages(step):  # documents of the request, and nothing in them
            return []
        deep = k * _DEEPER if manner.method == "hybrid" else k
        lists = []
        if manner.method != "vector":
            words = await shelf.keyword(step)
            found = await step.in_thread(lambda: [words.search(query, deep) for query in queries])
            lists.append(best(found, deep))
        if manner.method != "keyword":
            lists.append(await shelf.nearest(manner.embedder, queries, deep, step, self._clients))
        if len(lists) == 1:
            return lists[0]
        merge = fuse if manner.fuse == "rank" else blend
        return merge(lists, k, (1 - manner.weight, manner.weight))

    async def close(self) -> None:
        for shelf in self._shelves.values():
            shelf.close()

    async def _shelf(self, corpus: Corpus, step: Step) -> _Shelf:
        """The corpus as it is now."""
        state = await step.in_thread(corpus.state)
        key = corpus.key
        shelf = self._shelves.get(key)
        if shelf is None or shelf.state != state:
            shelf = self._shelves[key] = _Shelf(corpus, state, shelf.models() if shelf else {})
        self._shelves.move_to_end(key)
        while len(self._shelves) > _KEPT:
            self._shelves.popitem(last=False)
        return shelf


class _Shelf:
    """One corpus in one state."""

    def __init__(self, corpus: Corpus, state: Hashable, embedders: dict[str, Embedder]) -> None:
        self.state = state
        self._embedders = embedders
        self._corpus = corpus
        self._made: dict[str, Any] = {}
        self._making: dict[str, asyncio.Task[None]] = {}

    def models(self) -> dict[str, Embedder]:
        """The embedders that outlive a change, with the vectors they know; the others are fitted to one state."""
        return {name: one for name, one in self._embedders.items() if isinstance(one, Remote)}

    async def keyword(self, step: Step) -> KeywordIndex:
        passages = await self.passages(step)
        return await self._once("keyword", lambda: step.in_thread(lambda: KeywordIndex(passages)))

    async def nearest(
        self, name: str, queries: Sequence[str], k: int, step: Step, clients: EmbeddingClients
    ) -> list[Passage]:
        using = self._embedders.get(name) or self._embedders.setdefault(name, embedder(name, clients))
        passages = await self.passages(step)

        async def build() -> VectorIndex:
            vectors = await using.fit([f"{passage.title}\n{passage.text}".strip() for passage in passages], step)
            return await step.in_thread(lambda: VectorIndex(passages, vectors))

        index = await self._once(f"vector {name}", build)
        vectors = await using.embed(queries, step)
        return best(await step.in_thread(lambda: [index.search(vector, k) for vector in vectors]), k)

    async def passages(self, step: Step) -> list[Passage]:
        return await self._once("passages", lambda: step.in_thread(self._corpus.load))

    async def _once(self, what: str, make: Callable[[], Awaitable[T]]) -> T:
        """Made once, for all who want it. A build outlives the step that began it: one that takes longer than a step
        has time would otherwise never end."""
        while what not in self._made:
            task = self._making.get(what)
            mine = task is None
            if task is None:
                task = self._making[what] = asyncio.create_task(self._make(what, make))
                task.add_done_callback(_seen)
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                raise
            except Exception:  # whatever the maker met; we only waited for it
                if mine:  # what went wrong for somebody else, such as his time, need not for us
                    raise
        made: T = self._made[what]
        return made

    async def _make(self, what: str, make: Callable[[], Awaitable[Any]]) -> None:
        try:
            self._made[what] = await make()
        finally:
            del self._making[what]

    def close(self) -> None:
        for task in self._making.values():
            task.cancel()


def _seen(task: asyncio.Task[None]) -> None:
    """Nobody may be left to hear of its error."""
    if not task.cancelled():
        task.exception()
