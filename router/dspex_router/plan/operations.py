"""The execution router: which implementation runs an operation. The table is the decision matrix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from dspex_bus.errors import InvalidRequest, NotFound, NoWorkers
from dspex_bus.wire import HandlerInfo, Implementation, StepDefinition

from .catalog import Catalog
from .fitting import only_dspy

NATIVE_POOL = "native"
DSPY_POOL = "dspy"
OPTIMIZE_POOL = "optimize"


class Operation(NamedTuple):
    """The handler of each implementation, None where there is none; why ``auto`` chooses as it does; and ``when`` the
    other one is to be asked for. docs/choosing.md shows the table."""

    native: str | None
    dspy: str | None
    why: str
    when: str = ""


_OPTIMIZED = (
    "the state that an optimizer made (`program`), another adapter, or DSPy's own types (images, tools, history)"
)

OPERATIONS: dict[str, Operation] = {
    "signature": Operation("signature", None, "parsing: no model, no DSPy"),
    "compile_signature": Operation("compile_signature", None, "parsing: no model, no DSPy"),
    "template": Operation("template", None, "string manipulation"),
    "parse_reply": Operation("parse_reply", None, "text processing"),
    "predict": Operation("predict", "dspy.Predict", "one direct call: native costs a fraction", _OPTIMIZED),
    "chain_of_thought": Operation(
        "chain_of_thought",
        "dspy.ChainOfThought",
        "one direct call with a reasoning field",
        f"{_OPTIMIZED}; several chains compared are `dspy.MultiChainComparison`",
    ),
    "lm": Operation("lm", None, "one direct call, without a signature"),
    "rag": Operation(
        "rag",
        "dspy.RAG",
        "a search and one direct call",
        f"{_OPTIMIZED}; searches that depend on what was found are steps of a pipeline, or `dspy.ReAct`",
    ),
    "react": Operation(None, "dspy.ReAct", "an agent loop: DSPy's own"),
    "cache": Operation("cache", None, "a key-value bucket"),
    "vector_search": Operation("vector_search", None, "an index over documents"),
    "keyword_search": Operation("keyword_search", None, "an index over documents"),
    "hybrid_search": Operation("hybrid_search", None, "two indexes over documents"),
    "colbert_search": Operation(
        "colbert_search",
        "dspy.ColBERTv2",
        "asking a ColBERTv2 server is one request",
        "a server's raw `hits` are wanted besides the passages",
    ),
    "web_search": Operation("web_search", None, "one request to a provider"),
    "merge_passages": Operation("merge_passages", None, "sorting"),
    "chunk": Operation("chunk", None, "string manipulation"),
    "format": Operation("format", None, "string manipulation"),
}


_ASKED = "asked for"


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
    options: Mapping[str, Any] | None = None,
) -> Choice:
    """What runs ``operation``, which is one of the table's or any handler that a live worker offers, with these
    constants.

    Raises NotFound (code ``unknown_operation``), NoWorkers, or InvalidRequest (``ambiguous_pool``,
    ``implementation_unavailable``, ``unsupported_natively``).
    """
    entry = OPERATIONS.get(operation)
    if entry is None:
        return _handler(operation, implementation, catalog, pool)
    if implementation == "native" and entry.native is None:
        raise _unavailable(operation, "native")
    if implementation == "dspy" and entry.dspy is None:
        raise _unavailable(operation, "dspy")
    native_first = implementation != "dspy" and entry.native is not None
    if native_first and entry.dspy is not None and (why := _beyond(entry, catalog, options or {})):
        if implementation == "native":
            raise InvalidRequest(
                f"{operation} cannot run natively: {why}; leave out the implementation, or choose dspy",
                code="unsupported_natively",
            )
        return _in_dspy(entry.dspy, catalog, pool, why)
    if native_first and (
        implementation == "native"
        or entry.dspy is None
        or _offered(entry.native, catalog, pool)
        or not _offered(entry.dspy, catalog, pool)
    ):
        assert entry.native is not None
        why = _ASKED if implementation == "native" else entry.why
        return Choice(find_pool(entry.native, "native", catalog, pool), entry.native, "native", why)
    assert entry.dspy is not None
    why = "no live worker offers it natively" if native_first else _ASKED if implementation == "dspy" else entry.why
    return Choice(find_pool(entry.dspy, "dspy", catalog, pool), entry.dspy, "dspy", why)


def assign(step: StepDefinition, catalog: Catalog) -> Choice:
    """Where a step runs that a handler runs. Raises as :func:`choose` does."""
    if step.call is not None:
        return choose(step.call, step.implementation, catalog, pool=step.pool, options=step.with_)
    implementation: Literal["native", "dspy"] = "native" if step.native is not None else "dspy"
    handler = (step.native or step.module or "").replace(":", ".")
    return Choice(find_pool(handler, implementation, catalog, step.pool), handler, implementation, "the step says so")


def _beyond(entry: Operation, catalog: Catalog, options: Mapping[str, Any]) -> str:
    native, dspy = (_info(name, catalog) for name in (entry.native, entry.dspy))
    return "" if native is None else only_dspy(options, native, dspy)


def _info(handler: str | None, catalog: Catalog) -> HandlerInfo | None:
    return next((handlers[handler] for handlers in catalog.pools.values() if handler and handler in handlers), None)


def _in_dspy(handler: str, catalog: Catalog, pool: str | None, why: str) -> Choice:
    try:
        return Choice(find_pool(handler, "dspy", catalog, pool), handler, "dspy", why)
    except NoWorkers as error:
        raise NoWorkers(f"{why}, and {error.message}", details=error.details) from error


def find_pool(handler: str, implementation: Literal["native", "dspy"], catalog: Catalog, pool: str | None) -> str:
    """The pool whose live workers offer a handler: the one asked for, else the built-in one, else the only one."""
    default = NATIVE_POOL if implementation == "native" else DSPY_POOL
    if pool is not None:
        if pool not in catalog.pools:
            raise _no_workers(pool)
        if handler not in catalog.pools[pool]:
            raise unknown_handler(handler, catalog.pools[pool], f"the pool {pool} offers")
        return pool
    offering = [name for name, handlers in catalog.pools.items() if handler in handlers]
    if default in offering:
        return default
    if len(offering) == 1:
        return offering[0]
    if offering:
        raise InvalidRequest(
            f"several pools offer {handler}: {', '.join(sorted(offering))}; say which with 'pool'",
            code="ambiguous_pool",
        )
    if default not in catalog.pools:
        raise _no_workers(default)
    known = {
        name: info
        for handlers in catalog.pools.values()
        for name, info in handlers.items()
        if info.implementation == implementation
    }
    raise unknown_handler(handler, known, "live workers offer")


def unknown_handler(handler: str, known: Iterable[str], who: str) -> NotFound:
    names = sorted(known)
    near = difflib.get_close_matches(handler, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    return NotFound(
        f"no handler {handler!r}{hint} {who}: {', '.join(names) or 'none'}",
        code="unknown_handler",
        details={"handler": handler, "known": names},
    )


def _handler(name: str, implementation: Implementation, catalog: Catalog, pool: str | None) -> Choice:
    kinds = {
        handlers[name].implementation
        for where, handlers in catalog.pools.items()
        if name in handlers and pool in (None, where)
    }
    wanted = {implementation} if implementation != "auto" else {"native", "dspy"}
    for kind in ("native", "dspy"):
        if kind in kinds & wanted:
            return Choice(find_pool(name, kind, catalog, pool), name, kind, "a handler by its name")
    if pool is not None and pool not in catalog.pools:
        raise _no_workers(pool)
    known = {*OPERATIONS, *(handler for handlers in catalog.pools.values() for handler in handlers)}
    missing = unknown_handler(name, known, "there are")
    raise NotFound(missing.message, code="unknown_operation", details=missing.details)


def _offered(handler: str | None, catalog: Catalog, pool: str | None) -> bool:
    return any(handler in handlers for name, handlers in catalog.pools.items() if pool in (None, name))


def _unavailable(operation: str, implementation: str) -> InvalidRequest:
    return InvalidRequest(
        f"the operation {operation} has no {implementation} implementation", code="implementation_unavailable"
    )


def how_to_start(pool: str) -> str:
    """The command that starts a worker of the pool."""
    if pool in (NATIVE_POOL, DSPY_POOL, OPTIMIZE_POOL):
        return f"dspex pool {pool}"
    return f"dspex serve MODULE:handlers --pool {pool}"


def _no_workers(pool: str) -> NoWorkers:
    message = f"the pool {pool!r} has no live worker; start one: {how_to_start(pool)}"
    return NoWorkers(message, details={"pool": pool})
