"""What a native pool offers, by name."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from dspex_bus.signatures import read_signature, to_data

from ..cache import Made, key
from ..evaluation.scored import Score, Scored, scored
from ..evaluation.statistics import Summary, summary
from ..handlers import Handlers, Step
from ..lm import EmbeddingClients
from . import formatting
from .adapters import parse_chat_reply, parse_json_reply
from .direct import LMAnswer, LMCall, call_lm
from .errors import ReplyError
from .models import Models
from .predicting import PredictOptions, predict
from .rag import rag
from .retrieval import Passage
from .retrieval.library import Library
from .retrieval.services import SearchClient
from .searching import searches
from .templating import templates


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """A signature such as ``question -> answer: str``, or as an object with ``inputs`` and ``outputs``, each from names
    to types or a JSON Schema."""

    spec: str | dict[str, Any]
    instructions: str | None = None


class Parsed(msgspec.Struct, frozen=True, kw_only=True):
    signature: str
    instructions: str
    input_fields: list[str]
    output_fields: list[str]


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """``definition`` is the signature as an object. ``native`` is false where only DSPy can handle its ``types``."""

    signature: str
    instructions: str
    digest: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    definition: dict[str, Any]
    native: bool = True
    types: list[str] = []


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A model's reply and the signature it answers."""

    signature: str | dict[str, Any]
    text: str
    instructions: str | None = None
    layout: Literal["auto", "chat", "json"] = "auto"


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """``key`` and ``value`` are any JSON values; ``ttl`` is in seconds, at least one."""

    key: Any
    value: Any
    ttl: float = 3600.0
    namespace: str = "default"


class Cached(msgspec.Struct, frozen=True, kw_only=True):
    """``hit``: the value is one that was kept before, not the one given."""

    value: Any
    hit: bool


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """``citations`` are numbers of passages, from 1, in the order cited."""

    question: str
    answer: str
    passages: list[Passage] = []
    citations: list[int] = []
    format: Literal["markdown", "text"] = "markdown"


class ScoredAll(msgspec.Struct, frozen=True, kw_only=True):
    """``results`` are a map's outcomes; one without outputs failed, and counts 0."""

    results: list[dict[str, Any]]


def native_handlers(models: Models | None = None) -> Handlers:
    """Every native handler, with caches and connections of its own."""
    handlers = Handlers()
    _signatures(handlers)
    models = models or Models()
    handlers.on_open(models.configured.endpoints.shares.join)
    _predictors(handlers, models)
    _scores(handlers)
    clients = EmbeddingClients(models.configured)
    library = Library(clients)
    handlers.on_close(library.close)
    handlers.on_close(clients.close)
    handlers.on_close(models.configured.endpoints.shares.leave)
    handlers.include(searches(library, SearchClient()))
    handlers.include(rag(models, library))
    handlers.include(templates())

    @handlers.handler("cache")
    async def cache(request: Kept, step: Step) -> Cached:
        """The value kept under ``key``; if there is none, ``value``, which is then kept for ``ttl`` seconds."""
        if step.cache is None:
            return Cached(value=request.value, hit=False)

        async def given() -> Made:
            return Made(msgspec.json.encode(request.value))

        found = await step.cache.fetch(key("value", request.namespace, request.key), given, ttl_s=request.ttl)
        return Cached(value=msgspec.json.decode(found.value), hit=found.hit)

    @handlers.handler("format", pure=True)
    def format(request: Answer) -> formatting.Formatted:
        """The answer with its numbered sources, as markdown or as text."""
        sources = formatting.sources_of(request.passages, request.citations)
        shape = formatting.markdown if request.format == "markdown" else formatting.text
        made = shape(request.question, request.answer, sources)
        return formatting.Formatted(markdown=made, answer=request.answer, sources=sources)

    return handlers


def _signatures(handlers: Handlers) -> None:
    @handlers.handler("signature", pure=True)
    async def signature(request: Spec) -> Parsed:
        """Check a signature, and name its fields."""
        found = read_signature(request.spec, request.instructions)
        return Parsed(
            signature=found.text,
            instructions=found.instructions,
            input_fields=list(found.input_names),
            output_fields=list(found.output_names),
        )

    @handlers.handler("compile_signature", pure=True)
    async def compile_signature(request: Spec) -> Compiled:
        """A signature with the JSON Schemas of its inputs and outputs, and its digest."""
        found = read_signature(request.spec, request.instructions)
        return Compiled(
            signature=found.text,
            instructions=found.instructions,
            digest=found.digest,
            input_schema=found.input_schema(),
            output_schema=found.output_schema(),
            definition=to_data(found),
            native=not found.foreign,
            types=list(found.foreign),
        )

    @handlers.handler("parse_reply", pure=True)
    async def parse_reply(request: Reply) -> dict[str, Any]:
        """The signature's outputs in a model's reply, typed."""
        found = read_signature(request.signature, request.instructions)
        if request.layout == "json":
            return parse_json_reply(found, request.text)
        try:
            return parse_chat_reply(found, request.text)
        except ReplyError as error:
            if request.layout == "chat":
                raise
            try:
                return parse_json_reply(found, request.text)
            except ReplyError:
                if error.faults:  # its fields are there, and wrong: that says more
                    raise error from None
                raise


def _predictors(handlers: Handlers, models: Models) -> None:
    handlers.on_close(models.close)

    @handlers.handler("predict", reads="signature")
    async def predict_(options: PredictOptions, step: Step) -> dict[str, Any]:
        """Ask the model for the signature's outputs, over our own HTTP client."""
        return await predict(models, options, step)

    @handlers.handler("chain_of_thought", reads="signature", adds=("reasoning",))
    async def chain_of_thought(options: PredictOptions, step: Step) -> dict[str, Any]:
        """Reason first, then answer; the outputs have a ``reasoning`` field besides the signature's."""
        return await predict(models, options, step, reasoning=True)

    @handlers.handler("lm")
    async def lm(call: LMCall, step: Step) -> LMAnswer:
        """Ask the model with messages of one's own, without a signature."""
        return await call_lm(models, call, step)


def _scores(handlers: Handlers) -> None:
    @handlers.handler("score")
    def score(request: Scored) -> Score:
        """How good a prediction is by a metric that compares fields: exact_match, contains or f1."""
        return scored(request)

    @handlers.handler("score_summary")
    def score_summary(request: ScoredAll) -> Summary:
        """The score of all examples, with the bounds of a confidence interval."""
        outputs = [result.get("outputs") for result in request.results]
        scores = [float(found["score"]) if found is not None else 0.0 for found in outputs]
        return summary(scores, outputs.count(None))
