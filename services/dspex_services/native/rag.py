"""Retrieval-augmented answers in one step: search, then a chain of thought over what was found."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec

from ..errors import InvalidInput
from ..handlers import Handlers, Step
from .models import Models
from .predicting import PredictOptions, predict
from .retrieval.documents import Document
from .retrieval.grounding import Grounded, Search, answered, grounded
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
        try:
            return answered(await predict(models, told, within, reasoning=True), passages)
        finally:
            step.usage = within.usage

    return handlers


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
