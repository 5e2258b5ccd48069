"""What steps may say to DSPy's modules: the constants under ``with``."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from dspex_bus.signatures import Signature, read_signature

from ..native.retrieval.grounding import Search

Count = Annotated[int, msgspec.Meta(ge=1, le=100)]


class ModelOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What any DSPy step may say of its model; address and key are the worker's own.

    ``lm`` holds further parameters of the call (``top_p``, ``seed``, ``stop``, ``reasoning_effort``, …).
    ``adapter`` is ``chat``, ``json``, ``xml``, ``baml`` or ``two_step``, whose second step asks ``extraction_model``.
    ``cache`` keeps the model's replies that many seconds, or not at all with false; without it the operator's table of
    models decides."""

    model: str | None = None
    temperature: float | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    lm: dict[str, Any] = {}
    adapter: str = "chat"
    extraction_model: str | None = None
    cache: bool | float | None = None


class ModuleOptions(ModelOptions, frozen=True, kw_only=True):
    """The constants of a step with a signature.

    ``demos`` are examples, objects with the signature's fields, for every predictor of the module or by predictor.
    ``program`` is the name of a stored program whose state the module takes: ``name``, ``name@tag`` or
    ``name@version``."""

    signature: str | dict[str, Any]
    instructions: str | None = None
    demos: list[dict[str, Any]] | dict[str, list[dict[str, Any]]] = []
    program: str | None = None

    @property
    def spelled(self) -> tuple[str, str | None]:
        """The signature as a text, and its instructions."""
        if isinstance(self.signature, str):
            return self.signature, self.instructions
        return self.meant.text, self.meant.instructions

    @property
    def meant(self) -> Signature:
        return read_signature(self.signature, self.instructions)


class UserOptions(ModelOptions, frozen=True, kw_only=True):
    """The constants of a step that runs a module of the user's own."""

    demos: list[dict[str, Any]] | dict[str, list[dict[str, Any]]] = []
    program: str | None = None


class ProgramOptions(ModelOptions, frozen=True, kw_only=True):
    """``program`` is the name of a stored program: ``name``, ``name@tag`` or ``name@version``."""

    program: str


class PredictOptions(ModuleOptions, frozen=True, kw_only=True):
    """``n`` completions are asked for; with more than one, ``completions`` lists them all."""

    n: Count = 1


class RagOptions(ModuleOptions, frozen=True, kw_only=True):
    """``search`` says where and how to look: ``{folder: handbook, k: 6}``."""

    search: Search


class ToolOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tool: the ``handler`` that runs it, constants ``with`` that the model neither sees nor chooses, and what the
    model is told in place of what the handler says of itself: ``name``, ``description`` and ``args``, each argument's
    JSON Schema."""

    handler: str
    name: str | None = None
    description: str = ""
    args: dict[str, dict[str, Any]] = {}
    with_: dict[str, Any] = msgspec.field(name="with", default_factory=dict)


Tools = tuple[str | ToolOptions, ...]


class ReActOptions(ModuleOptions, frozen=True, kw_only=True):
    """``tools`` are handlers by name, or with a description and constants of their own; ``mcp.files.*`` are all that
    begin so."""

    tools: Tools = ()
    max_iters: Count = 8


class RLMOptions(ReActOptions, frozen=True, kw_only=True):
    """``sub_model`` answers the queries that the generated code makes, at most ``max_llm_calls`` of them."""

    max_iters: Count = 20
    max_llm_calls: int = 50
    max_output_chars: int = 10_000
    sub_model: str | None = None


class CodeOptions(ModuleOptions, frozen=True, kw_only=True):
    max_iters: Count = 3


class InnerOptions(ModuleOptions, frozen=True, kw_only=True):
    """``module`` is the DSPy module that is run: Predict or ChainOfThought."""

    module: str = "dspy.ChainOfThought"


class RewardedOptions(InnerOptions, frozen=True, kw_only=True):
    """Up to ``n`` attempts, until one's ``reward`` (a metric) reaches ``threshold``; the best one counts."""

    reward: str | dict[str, Any]
    n: Count = 3
    threshold: float = 1.0
    fail_count: int | None = None


class MetricOptions(ModelOptions, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """``metric`` is a built-in one's name, an import path that the operator lists, or an object with ``handler`` or
    ``judge``. ``example_inputs`` are the example's fields that were asked; the others are the right answers."""

    example: dict[str, Any]
    prediction: dict[str, Any]
    metric: str | dict[str, Any] = "exact_match"
    example_inputs: list[str] = []


class ComparisonOptions(ModuleOptions, frozen=True, kw_only=True):
    """``m`` attempts are compared: the field ``completions`` of the context where the signature has that input, else
    chains of thought made here."""

    m: Annotated[int, msgspec.Meta(ge=2, le=20)] = 3
    temperature: float | None = 0.7


class ParallelOptions(InnerOptions, frozen=True, kw_only=True):
    """The module on each of ``examples``, objects with the signature's input fields, ``threads`` at once. More than
    ``max_errors`` failures fail the step."""

    examples: list[dict[str, Any]]
    threads: Count = 8
    max_errors: int = 10


class MajorityInput(msgspec.Struct, frozen=True, kw_only=True):
    """The most common ``field`` (the last one when not named) among ``completions``, compared without case, articles
    and punctuation."""

    completions: list[dict[str, Any]]
    field: str | None = None


class KnnInput(msgspec.Struct, frozen=True, kw_only=True):
    """The ``k`` examples of ``trainset`` nearest to ``query``, an object with the same input fields. ``embedder`` is a
    model on the pool's own server, or ``hashed``: words hashed to a vector, without a model."""

    query: dict[str, Any]
    trainset: list[dict[str, Any]]
    k: Count = 3
    embedder: str = "hashed"


class EmbeddingsInput(msgspec.Struct, frozen=True, kw_only=True):
    """The ``k`` texts of ``corpus`` nearest to ``query``."""

    query: str
    corpus: list[str]
    k: Count = 5
    embedder: str = "hashed"


class ColbertInput(msgspec.Struct, frozen=True, kw_only=True):
    """The server is the pool's own: ``DSPEX_COLBERT_URL`` in its environment."""

    query: str
    k: Count = 10
