"""The execution router: which implementation runs an operation."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

from dspex_bus.errors import InvalidRequest
from dspex_bus.wire import HandlerInfo, Implementation

from .catalog import Catalog


class Operation(NamedTuple):
    """The handlers that do it. ``adds`` are the fields that its outputs have besides its signature's; ``reason`` says in
    one line why it is done as it is."""

    native: str | None
    dspy: str | None
    reason: str
    adds: tuple[str, ...] = ()


OPERATIONS = {
    "signature": Operation("signature", None, "a parser of our own; nothing in DSPy is needed for it"),
    "compile_signature": Operation("compile_signature", None, "the parsed signature with its schemas, made once"),
    "template": Operation("template", None, "text from fields, without a model"),
    "predict": Operation("predict", "dspy.Predict", "one call of the model; native costs a fraction of DSPy's CPU time"),
    "chain_of_thought": Operation(
        "chain_of_thought", "dspy.ChainOfThought", "one call that reasons first; native as for predict", ("reasoning",)
    ),
    "react": Operation(None, "dspy.ReAct", "the loop of thought and tools is DSPy's", ("trajectory", "reasoning")),
    "parse_reply": Operation("parse_reply", None, "fields out of a model's reply"),
    "cache": Operation("cache", None, "kept on the bus, shared by all workers"),
    "format": Operation("format", None, "markdown from fields, without a model"),
    "vector_search": Operation("vector_search", None, "nearest passages by embedding"),
    "keyword_search": Operation("keyword_search", None, "best passages by words"),
    "merge_passages": Operation("merge_passages", None, "several rankings to one"),
    "colbert_search": Operation("colbert_search", None, "speaks ColBERTv2's HTTP protocol without DSPy"),
    "web_search": Operation("web_search", None, "an HTTP request"),
}

_ADDS = {handler: row.adds for row in OPERATIONS.values() for handler in (row.native, row.dspy) if handler}


class Choice(NamedTuple):
    """``why`` is one line a person can read."""

    pool: str
    handler: str
    implementation: Literal["native", "dspy"]
    why: str


def choose(
    operation: str,
    implementation: Implementation,
    catalog: Catalog,
    *,
    pool: str | None = None,
    options: Collection[str] = (),
) -> Choice:
    """What runs ``operation`` with the constants named in ``options``: under ``auto`` the native handler where one is
    offered that knows them all, else DSPy's. A name that is not in the table may be any handler that a worker offers.

    Raises NotFound (``unknown_handler``), NoWorkers, or InvalidRequest (``ambiguous_pool``,
    ``implementation_unavailable``).
    """
    row = OPERATIONS.get(operation)
    if row is None:
        kind = None if implementation == "auto" else implementation
        return _choice(catalog.locate(operation, kind, pool=pool), "the name of a handler")
    handlers = {"native": row.native, "dspy": row.dspy}
    if implementation != "auto":
        handler = handlers[implementation]
        if handler is None:
            raise InvalidRequest(
                f"{operation!r} has no {implementation} implementation: {row.reason}",
                code="implementation_unavailable",
                details={"operation": operation, "implementation": implementation},
            )
        return _choice(catalog.locate(handler, implementation, pool=pool), f"{implementation} was asked for")
    return _auto(row, catalog, pool, options)


def adds(info: HandlerInfo) -> tuple[str, ...] | None:
    """The output fields that a handler with a signature has besides the signature's; None where that is not known."""
    return info.outputs if info.outputs is not None else _ADDS.get(info.name)


def unknown_options(info: HandlerInfo, options: Collection[str], fields: Collection[str] = ()) -> list[str]:
    """The names in ``options`` that the handler cannot take, where it says which it takes. ``fields``: its signature's."""
    listed = {*info.required, *info.optional}
    return [name for name in options if name not in listed and name not in fields] if listed else []


def _auto(row: Operation, catalog: Catalog, pool: str | None, options: Collection[str]) -> Choice:
    ...
