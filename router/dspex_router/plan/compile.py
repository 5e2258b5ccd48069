"""A definition to a plan."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from dspex_bus.errors import DspexError, InvalidPipeline, NoWorkers
from dspex_bus.wire import (
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
from .fields import Fields, check_there, joined, missing_field, reading_of, signature_of, written_by
from .operations import Choice, choose, find_pool
from .structure import check_structure, digest_of, kind_of

_TIMEOUT_MS = {"native": 60_000, "dspy": 300_000}


def compile_pipeline(
    definition: PipelineDefinition, catalog: Catalog, *, input_fields: Collection[str] | None = None
) -> Plan:
    """The plan, with each step's pool and handler chosen. ``input_fields``: the run's input fields, None if not known
    yet.

    Raises InvalidPipeline, or NoWorkers where a pool has no ready worker: the first fault, with its path.
    """
    check_structure(definition)
    compiler = _Compiler(catalog, definition.retry or RetryPolicy())
    known: Fields = None if input_fields is None else frozenset(input_fields)
    children, written = compiler.steps(definition.steps, "steps", "", known)
    known = joined(known, written)
    if definition.output is not None and known is not None:
        for name in definition.output:
            if name not in known:
                raise missing_field("output", "the run", name, known)
    root = SequenceNode(id="root", name=definition.name, children=children)
    return Plan(pipeline=definition.name, digest=digest_of(definition), root=root, output=definition.output)


class _Compiler:
    """Each method returns what it compiled, and the fields that it writes."""

    def __init__(self, catalog: Catalog, retry: RetryPolicy) -> None:
        self._catalog = catalog
        self._retry = retry

    def steps(
        self, steps: tuple[StepDefinition, ...], path: str, prefix: str, known: Fields
    ) -> tuple[tuple[Node, ...], Fields]:
        nodes: list[Node] = []
        written: Fields = frozenset()
        for place, step in enumerate(steps):
            node, more = self._step(step, f"{path}[{place}]", f"{prefix}{place}", known)
            nodes.append(node)
            known, written = joined(known, more), joined(written, more)
        return tuple(nodes), written

    def _step(self, step: StepDefinition, path: str, id: str, known: Fields) -> tuple[Node, Fields]:
        kind = kind_of(step, path)
        if kind == "parallel":
            return self._parallel(step, path, id, known)
        if kind == "sequence":
            return self._sequence(step, path, id, known)
        return self._task(step, self._placed(step, kind, path), path, id, known)

    def _placed(self, step: StepDefinition, kind: str, path: str) -> Choice:
        """Where a step runs; what is wrong with that gets its path."""
        try:
            return self._place(step, kind)
        except NoWorkers as error:
            raise NoWorkers(f"{path}: {error.message}", details={"path": path, **error.details}) from error
        except DspexError as error:
            raise InvalidPipeline(error.message, path=path, code=error.code, details=error.details) from error

    def _place(self, step: StepDefinition, kind: str) -> Choice:
        if kind == "call":
            return choose(step.call or "", step.implementation, self._catalog, pool=step.pool)
        implementation: Literal["native", "dspy"] = "native" if kind == "native" else "dspy"
        handler = (step.native or step.module or "").replace(":", ".")
        pool = find_pool(handler, implementation, self._catalog, step.pool)
        return Choice(pool, handler, implementation, "the step says so")

    def _parallel(self, step: StepDefinition, path: str, id: str, known: Fields) -> tuple[Node, Fields]:
        nodes: list[Node] = []
        merged: Fields = frozenset()
        writers: dict[str, int] = {}
        for place, branch in enumerate(step.parallel or ()):
            here = f"{path}.parallel[{place}]"
            node, written = self._step(branch, here, f"{id}-{place}", known)
            nodes.append(node)
            merged = joined(merged, written)
            for field in sorted(written or ()):
                if writers.setdefault(field, place) != place and step.save_as is None:
                    raise _conflict(here, field, writers[field], place)
        node = ParallelNode(
            id=id, name=step.name or "parallel", children=tuple(nodes), save_as=step.save_as, on_error=step.on_error
        )
        return node, merged if step.save_as is None else frozenset({step.save_as})

    def _sequence(self, step: StepDefinition, path: str, id: str, known: Fields) -> tuple[Node, Fields]:
        children, written = self.steps(step.sequence or (), f"{path}.sequence", f"{id}-", known)
        return SequenceNode(id=id, name=step.name or "sequence", children=children), written

    def _task(self, step: StepDefinition, choice: Choice, path: str, id: str, known: Fields) -> tuple[Node, Fields]:
        info = self._catalog.pools[choice.pool][choice.handler]
        signature = signature_of(step, info, path)
        reading = reading_of(step, info, signature, path)
        written = written_by(step, info, signature, path)
        check_there(reading, known, step.name or choice.handler, path)
        node = TaskNode(
            id=id,
            name=step.name or choice.handler,
            pool=choice.pool,
            handler=choice.handler,
            implementation=choice.implementation,
            options=step.with_,
            reads=reading.sources,
            optional=reading.optional,
            reads_all=info.reads == "any",
            writes=step.outputs,
            save_as=step.save_as,
            timeout_ms=_milliseconds(step.timeout_s) or _TIMEOUT_MS[choice.implementation],
            cache_ms=_milliseconds(step.cache_s),
            retry=step.retry or self._retry,
        )
        return node, written


def _milliseconds(seconds: float | None) -> int:
    """At least one where there is a time, since 0 means none."""
    return 0 if seconds is None else max(1, round(seconds * 1000))


def _conflict(path: str, field: str, first: int, second: int) -> InvalidPipeline:
    return InvalidPipeline(
        f"branches {first} and {second} both write {field!r}; rename it in one with 'outputs', "
        "or keep the branches' outcomes as a list with 'save_as' on the parallel",
        path=path,
        code="output_conflict",
        details={"field": field},
    )
