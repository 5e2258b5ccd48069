"""Retrieval-augmented answers as a DSPy module: the same search as the native form, then ``dspy.ChainOfThought``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import dspy
import msgspec

from ..handlers import Handlers, Step
from ..lm import EmbeddingClients
from ..native.rag import retrieve
from ..native.retrieval.grounding import PASSAGES, Grounded, checked, grounded
from ..native.retrieval.library import Library
from ..native.retrieval.passages import Passage, shown
from .options import ModuleOptions, RagOptions
from .programs import Programs
from .values import plain


class RAG(dspy.Module):  # type: ignore[misc]
    """``respond`` is the chain of thought; its state is what a stored program of this module holds. ``passages`` are
    what ``retrieve`` found."""

    by_signature = True
    """Its inputs are those of its predictor: a conversation's history has a place there."""

    def __init__(self, asking: Grounded, respond: Any, retrieve: Callable[[], Awaitable[list[Passage]]]) -> None:
        super().__init__()
        self.respond = respond
        self.passages: list[Passage] = []
        self._asking = asking
        self._retrieve = retrieve

    async def aforward(self, **inputs: Any) -> Any:
        self.passages = await self._retrieve()
        shown_ = [shown(passage) for passage in self.passages]
        prediction = await self.respond.acall(**self._asking.asked(inputs, shown_))
        return dspy.Prediction(**checked(plain(prediction), self.passages))


def rag(programs: Programs) -> Handlers:
    handlers = Handlers()
    clients = EmbeddingClients(programs.models.configured)
    library = Library(clients)
    handlers.on_close(library.close)
    handlers.on_close(clients.close)

    @handlers.handler("dspy.RAG", reads="signature", implementation="dspy", adds=("reasoning", "citations", "passages"))
    async def rag_(options: RagOptions, step: Step) -> dict[str, Any]:
        """Search documents, then reason over what is found and answer with citations."""
        asking = grounded(options.signature, options.instructions, options.search)
        signature = asking.signature
        inner = ModuleOptions(signature=signature.text, instructions=signature.instructions)
        respond = programs.copy("ChainOfThought", inner)
        module = RAG(asking, respond, lambda: retrieve(library, asking, options.search, step))
        await programs.ready(module, options, step)
        outputs = await programs.run(module, asking.shown(step.inputs), options, step, asking.told)
        return {**outputs, PASSAGES: msgspec.to_builtins(module.passages)}

    return handlers
