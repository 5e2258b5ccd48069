"""Retrieval-augmented answers in one step: search, then a chain of thought over what was found."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..errors import InvalidInput
from ..handlers import Handlers, Step
from ..threads import Conversation
from .models import Models
from .predicting import PredictOptions, predict
from .retrieval.documents import Document
from .retrieval.grounding import CONTEXT, PASSAGES, Grounded, Search, checked, grounded
from .retrieval.library import Library
from .retrieval.passages import Passage, shown
from .searching import corpus_of, queries_of


class RagOptions(PredictOptions, frozen=True, kw_only=True):
    """``search`` says where and how to look: ``{folder: handbook, k: 6}``."""

    search: Search


def rag(models: Models, library: Library) -> Handlers:
    handlers = Handlers()

    @handlers.handler("rag", reads="signature", adds=("reasoning", "citations", "passages"))
    async def rag_(options: RagOptions, step: Step) -> dict[str, Any]:
        """Search documents and answer from what is found, with citations."""
        asking = grounded(options.signature, options.instructions, options.search)
        passages = await retrieve(library, asking, options.search, step)
        fields = {name: getattr(options, name) for name in PredictOptions.__struct_fields__}
        signature = asking.signature
        told = PredictOptions(**{**fields, "signature": signature.text, "instructions": signature.instructions})
        within = dataclasses.replace(step, inputs=asking.asked(step.inputs, [shown(one) for one in passages]))
        if step.conversation is not None:
            within.conversation = _WithoutPassages(step.conversation, passages)
        try:
            outputs = checked(await predict(models, told, within, reasoning=True), passages)
        finally:
            step.usage = within.usage
        return {**outputs, PASSAGES: msgspec.to_builtins(passages)}

    return handlers


class _WithoutPassages(Conversation):
    """What was looked up is no part of what was said."""

    def __init__(self, conversation: Conversation, passages: Sequence[Passage]) -> None:
        self._conversation = conversation
        self._passages = passages

    async def history(self) -> list[dict[str, Any]]:
        return await self._conversation.history()

    async def remember(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        told = {name: value for name, value in inputs.items() if name != CONTEXT}
        await self._conversation.remember(told, checked(outputs, self._passages))


async def retrieve(library: Library, asking: Grounded, search: Search, step: Step) -> list[Passage]:
    """The passages for a step's inputs. Raises what a search raises."""
    queries = queries_of(None, asking.queries(step.inputs))
    documents = asking.documents(step.inputs)
    try:
        given = None if documents is None else msgspec.convert(documents, list[str | Document])
    except msgspec.ValidationError as error:
        raise InvalidInput(f"the documents in {asking.over!r}: {error}", details={"field": asking.over}) from error
    corpus = await step.in_thread(lambda: corpus_of(search.folder, given))
    return await library.search(corpus, queries, search.k, search, step)
