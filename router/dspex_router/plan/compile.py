"""A definition to a plan."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

from dspex_bus.errors import DspexError, InvalidPipeline, Unavailable
from dspex_bus.signatures import Signature, SignatureError, parse_signature
from dspex_bus.wire import (
    HandlerInfo,
    Node,
    ParallelNode,
    PipelineDefinition,
    Plan,
    RetryPolicy,
    SequenceNode,
    StepDefinition,
    TaskNode,
)

from .catalog import Catalog
from .operations import Choice, choose, find_pool
from .structure import check_structure, digest_of, kind_of

_TIMEOUT_MS = {"native": 60_000, "dspy": 300_000}

Fields = frozenset[str] | None
"""The context's fields as far as they are known; None where a step before may have written any."""


def compile_pipeline(
    definition: PipelineDefinition,
    catalog: Catalog,
    *,
    input_fields: Collection[str] | None = None,
    durability: Literal["stored", "none"] = "stored",
) -> Plan:
    """The plan, with each step's pool and handler chosen. ``input_fields``: the run's input fields, None if not known
    yet.

    Raises InvalidPipeline with the path of the first fault, or NoWorkers where a pool has no ready worker.
    """
    check_structure(definition)
    compiler = _Compiler(catalog, definition.retry or RetryPolicy())
    known: Fields = None if input_fields is None else frozenset(input_fields)
    children, known = compiler.sequence(definition.steps, "steps", "", known)
    if definition.output is not None and known is not None:
        for name in definition.output:
            if name not in known:
                raise _missing("output", "the run", name, known)
    root = SequenceNode(id="root", name=definition.name, children=children)
    return Plan(pipeline=definition.name, digest=digest_of(definition), root=root, output=definition.output)


class _Compiler:
    def __init__(self, catalog: Catalog, retry: RetryPolicy) -> None:
        self._catalog = catalog
        self._retry = retry

    def sequence(
        self, steps: tuple[StepDefinition, ...], path: str, prefix: str, known: Fields
    ) -> tuple[tuple[Node, ...], Fields]:
        nodes = []
        for place, step in enumerate(steps):
            node, written = self.step(step, f"{path}[{place}]", f"{prefix}{place}", known)
            nodes.append(node)
            known = None if known is None or written is None else known | written
        return tuple(nodes), known

    def step(self, step: StepDefinition, path: str, id: str, known: Fields) -> tuple[Node, Fields]:
        """The node, and the fields it writes."""
        kind = kind_of(step, path)
        if kind == "parallel":
            return self._parallel(step, path, id, known)
        if kind == "sequence":
            return self._sequence(step, path, id, known)
        try:
            choice = self._place(step, kind)
        except Unavailable:
            raise
        except DspexError as error:
            raise InvalidPipeline(error.message, path=path, code=error.code, details=error.details) from error
        return self._task(step, choice, path, id, known)

    def _place(self, step: StepDefinition, kind: str) -> Choice:
        if kind == "call":
            assert step.call is not None
            return choose(step.call, step.implementation, self._catalog, pool=step.pool)
        implementation: Literal["native", "dspy"] = "native" if kind == "native" else "dspy"
        handler = (step.native or step.module or "").replace(":", ".")
        pool = find_pool(handler, implementation, self._catalog, step.pool)
        return Choice(pool, handler, implementation, "the step says so")

    def _parallel(self, step: StepDefinition, path: str, id: str, known: Fields) -> tuple[Node, Fields]:
        assert step.parallel is not None
        nodes, merged, writers = [], frozenset[str](), dict[str, int]()
        sure = True
        for place, branch in enumerate(step.parallel):
            node, written = self.step(branch, f"{path}.parallel[{place}]", f"{id}-{place}", known)
            nodes.append(node)
            sure = sure and written is not None
            for field in written or ():
                if field in writers and step.save_as is None:
                    raise InvalidPipeline(
                        f"branches {writers[field]} and {place} both write {field!r}; rename it in one with 'outputs', "
                        "or keep the branches' outcomes as a list with 'save_as' on the parallel",
                        path=f"{path}.parallel[{place}]",
                        code="output_conflict",
                    )
                writers[field] = place
            merged |= written or frozenset()
        parallel = ParallelNode(
            id=id, name=step.name or "parallel", children=tuple(nodes), save_as=step.save_as, on_error=step.on_error
        )
        if step.save_as is not None:
            return parallel, frozenset({step.save_as})
        # A branch that fails and is collected leaves its fields unwritten, so they are not sure.
        return parallel, merged if sure and step.on_error == "fail" else None

    def _sequence(self, step: StepDefinition, path: str, id: str, known: Fields) -> tuple[Node, Fields]:
        assert step.sequence is not None
        children, after = self.sequence(step.sequence, f"{path}.sequence", f"{id}-", known)
        node = SequenceNode(id=id, name=step.name or "sequence", children=children)
        return node, None if after is None or known is None else after - known | _rewritten(children)

    def _task(self, step: StepDefinition, choice: Choice, path: str, id: str, known: Fields) -> tuple[Node, Fields]:
        info = self._catalog.pools[choice.pool][choice.handler]
        signature = _signature(step, info, path)
        required, optional = _fields(step, info, signature, path)
        reads = {field: step.inputs.get(field, field) for field in (*required, *optional)}
        if info.reads == "any":
            reads = dict(step.inputs)
        _check_known(step, choice.handler, required if info.reads != "any" else tuple(reads), reads, known, path)
        retry = step.retry or self._retry
        node = TaskNode(
            id=id,
            name=step.name or choice.handler,
            pool=choice.pool,
            handler=choice.handler,
            implementation=choice.implementation,
            options=step.with_,
            reads=reads,
            optional=tuple(field for field in optional if field not in step.inputs),
            reads_all=info.reads == "any",
            writes=step.outputs,
            save_as=step.save_as,
            timeout_ms=int(step.timeout_s * 1000) if step.timeout_s else _TIMEOUT_MS[choice.implementation],
            cache_ms=int((step.cache_s or 0) * 1000),
            retry=retry,
        )
        return node, _written(step, info, signature)


def _signature(step: StepDefinition, info: HandlerInfo, path: str) -> Signature | None:
    """The signature of a step that reads its fields; checked here, so that a bad one never reaches a worker."""
    if info.reads != "signature":
        return None
    text, instructions = step.with_.get("signature"), step.with_.get("instructions")
    if not isinstance(text, str):
        raise InvalidPipeline(
            "the step needs a signature, such as 'question -> answer'",
            path=f"{path}.with.signature",
            code="invalid_signature",
        )
    try:
        return parse_signature(text, instructions if isinstance(instructions, str) else None)
    except SignatureError as error:
        raise InvalidPipeline(
            error.message, path=f"{path}.with.signature", code="invalid_signature", details=error.details
        ) from error


def _fields(
    step: StepDefinition, info: HandlerInfo, signature: Signature | None, path: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the step is sent of the context: what it requires, and what it takes where it is there."""
    constants = {*info.required, *info.optional}
    if info.reads == "any":
        return (), ()
    if signature is not None:
        _check_names(step.with_, constants, "constant", info.name, f"{path}.with")
        required = tuple(field.name for field in signature.inputs if not field.optional)
        optional = tuple(field.name for field in signature.inputs if field.optional)
        _check_names(step.inputs, {*required, *optional}, "input", info.name, f"{path}.inputs")
        return required, optional
    _check_names(step.with_, constants, "constant", info.name, f"{path}.with")
    _check_names(step.inputs, constants, "input", info.name, f"{path}.inputs")
    # An optional field that the step names a source for is wanted, and its absence is an error.
    required = tuple(field for field in info.required if field not in step.with_)
    optional = tuple(field for field in info.optional if field not in step.with_)
    return (*required, *(field for field in optional if field in step.inputs)), tuple(
        field for field in optional if field not in step.inputs
    )


def _check_names(given: dict[str, Any], known: set[str], what: str, handler: str, path: str) -> None:
    for name in given:
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise InvalidPipeline(f"{handler} has no {what} {name!r}; there are: {listed}", path=f"{path}.{name}")


def _check_known(
    step: StepDefinition, handler: str, required: tuple[str, ...], reads: dict[str, str], known: Fields, path: str
) -> None:
    if known is None:
        return
    for field in required:
        if reads[field].partition(".")[0] not in known:
            raise _missing(path, step.name or handler, reads[field], known)


def _missing(path: str, who: str, field: str, known: frozenset[str]) -> InvalidPipeline:
    listed = ", ".join(sorted(known)) or "none"
    return InvalidPipeline(
        f"{who} needs the field {field!r}, which nothing before writes; there are: {listed}",
        path=path,
        code="missing_field",
        details={"field": field, "known": sorted(known)},
    )


def _written(step: StepDefinition, info: HandlerInfo, signature: Signature | None) -> Fields:
    if step.save_as is not None:
        return frozenset({step.save_as})
    outputs = info.outputs
    if signature is not None:
        outputs = (*signature.output_names, *(info.outputs or ()))
    return None if outputs is None else frozenset(step.outputs.get(field, field) for field in outputs)


def _rewritten(children: tuple[Node, ...]) -> frozenset[str]:
    """Fields that a sequence writes over: they were known before, and it writes them all the same."""
    return frozenset(
        name
        for child in children
        if isinstance(child, TaskNode)
        for name in (*child.writes.values(), *([child.save_as] if child.save_as else []))
    )
