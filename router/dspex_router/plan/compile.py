"""A definition to a plan."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import count
from typing import Literal

from dspex_bus.errors import DspexError, InvalidPipeline, NoWorkers
from dspex_bus.wire import (
    BranchNode,
    Case,
    Join,
    LoopNode,
    MapNode,
    Node,
    ParallelNode,
    PipelineDefinition,
    PipelineNode,
    Plan,
    RetryPolicy,
    SequenceNode,
    SleepNode,
    StepDefinition,
    TaskNode,
    WaitNode,
)

from .catalog import Catalog
from .fields import (
    Fields,
    Reading,
    check_assertions,
    check_condition,
    check_there,
    joined,
    missing_field,
    reading_of,
    renamed,
    signature_of,
    written_by,
)
from .fusing import fused
from .operations import Choice, assign
from .references import Reference
from .structure import check_structure, digest_of, kind_of, too_many_steps

Travel = Literal["along", "first", "alone"]
"""With steps before and after it, only with those after it, or by itself."""

_TIMEOUT_MS = {"native": 60_000, "dspy": 300_000}
_DEEPEST_PIPELINE = 8


def compile_pipeline(
    definition: PipelineDefinition,
    catalog: Catalog,
    *,
    input_fields: Collection[str] | None = None,
    durability: Literal["stored", "none"] = "stored",
    definitions: Mapping[Reference, PipelineDefinition] | None = None,
) -> Plan:
    """The plan, with each step's pool and handler chosen. ``input_fields``: the run's input fields, None if not known
    yet. ``definitions`` are those of the pipelines that steps name (see :func:`references`).

    Raises InvalidPipeline, or NoWorkers where a pool has no ready worker: the first fault, with its path.
    """
    known: Fields = None if input_fields is None else frozenset(input_fields)
    compiler = _Compiler(catalog, definition, definitions or {}, count(1), stored=durability == "stored", within=())
    return compiler.plan("", known)[0]


class _Compiler:
    """Of one definition. ``numbers`` are its steps', ``within`` names the pipelines it is a step of."""

    def __init__(
        self,
        catalog: Catalog,
        definition: PipelineDefinition,
        definitions: Mapping[Reference, PipelineDefinition],
        numbers: Iterator[int],
        *,
        stored: bool,
        within: tuple[str, ...],
    ) -> None:
        self._numbers = numbers
        self._catalog = catalog
        self._definition = definition
        self._definitions = definitions
        self._stored = stored
        self._within = within
        self._hidden: frozenset[str] = frozenset()
        self._retry = definition.retry or RetryPolicy()

    def plan(self, path: str, known: Fields) -> tuple[Plan, Fields]:
        """The plan, and the fields a run of it answers with. ``path`` is where the definition stands."""
        definition = self._definition
        check_structure(definition, path)
        children, written = self._steps(definition.steps, f"{path}steps", "", known)
        known = joined(known, *written)
        if definition.output is not None and known is not None:
            for name in definition.output:
                if name not in known:
                    raise missing_field(f"{path}output", "the run", name, known)
        root = SequenceNode(id="root", name=definition.name, children=children)
        plan = Plan(pipeline=definition.name, digest=digest_of(definition), root=root, output=definition.output)
        return plan, written[-1] if definition.output is None else frozenset(definition.output)

    def _steps(
        self, steps: tuple[StepDefinition, ...], path: str, prefix: str, known: Fields
    ) -> tuple[tuple[Node, ...], list[Fields]]:
        """The nodes, and what each of them writes."""
        nodes: list[Node] = []
        written: list[Fields] = []
        travelling: dict[Travel, list[str]] = {"along": [], "first": [], "alone": []}
        for place, step in enumerate(steps):
            node, more = self._step(step, f"{path}[{place}]", f"{prefix}{place}", known)
            nodes.append(node)
            if isinstance(node, TaskNode):
                travelling[self._travels(step, node)].append(node.id)
            written.append(more)
            known = joined(known, more)
        return fused(nodes, travelling["along"], travelling["first"]), written

    def _travels(self, step: StepDefinition, node: TaskNode) -> Travel:
        """How it goes with its neighbours, as one task. What is cached has a look-up of its own, and what is hidden
        from those that take everything goes along with nobody."""
        if not (step.fuse and self._definition.fuse):
            return "alone"
        names = {path.partition(".")[0] for path in node.reads.values()}
        if node.cache_ms or node.remember or node.affinity or node.limits or names & self._hidden:
            return "alone"
        handler = self._catalog.pools[node.pool][node.handler]
        return "along" if handler.pure else "first" if handler.carries else "alone"

    def _body(
        self, steps: tuple[StepDefinition, ...], path: str, id: str, name: str, known: Fields
    ) -> tuple[SequenceNode, Fields]:
        """Steps in order as one node, and the fields they may write."""
        nodes, written = self._steps(steps, path, f"{id}-", known)
        return SequenceNode(id=id, name=name, children=nodes), joined(*written)

    def _step(self, step: StepDefinition, path: str, id: str, known: Fields) -> tuple[Node, Fields]:
        """The node, and the fields it may write."""
        too_many_steps(next(self._numbers), path)
        kind = kind_of(step, path)
        if kind in ("pipeline", "sleep_s", "wait") and not self._stored:
            raise _unstored(kind.removesuffix("_s"), path)
        match kind:
            case "parallel":
                return self._parallel(step, path, id, known)
            case "sequence":
                assert step.sequence is not None
                return self._body(step.sequence, f"{path}.sequence", id, step.name or "sequence", known)
            case "map":
                return self._map(step, path, id, known)
            case "branch":
                return self._branch(step, path, id, known)
            case "loop":
                return self._loop(step, path, id, known)
            case "pipeline":
                return self._pipeline(step, path, id, known)
            case "sleep_s":
                assert step.sleep_s is not None
                return SleepNode(id=id, name=step.name or "sleep", duration_ms=_milliseconds(step.sleep_s)), frozenset()
            case "wait":
                return _wait(step, id)
        choice = self._placed(step, path)
        if not self._stored and self._catalog.pools[choice.pool][choice.handler].resumes:
            raise _unstored(choice.handler, path)
        return self._task(step, choice, path, id, known)

    def _placed(self, step: StepDefinition, path: str) -> Choice:
        """Where a step runs; what is wrong with that gets its path."""
        try:
            return assign(step, self._catalog)
        except NoWorkers as error:
            raise NoWorkers(f"{path}: {error.message}", details={"path": path, **error.details}) from error
        except DspexError as error:
            raise InvalidPipeline(error.message, path=path, code=error.code, details=error.details) from error

    def _parallel(self, step: StepDefinition, path: str, id: str, known: Fields) -> tuple[Node, Fields]:
        nodes: list[Node] = []
        merged: Fields = frozenset()
        writers: dict[str, int] = {}
        merges = step.save_as is None and step.join != "any"
        for place, branch in enumerate(step.parallel or ()):
            here = f"{path}.parallel[{place}]"
            node, written = self._step(branch, here, f"{id}-{place}", known)
            nodes.append(node)
            merged = joined(merged, written)
            for field in sorted(written or ()):
                if writers.setdefault(field, place) != place and merges:
                    raise _conflict(here, field, writers[field], place)
        node = ParallelNode(
            id=id, name=step.name or "parallel", children=tuple(nodes), save_as=step.save_as, join=_join(step)
        )
        return node, merged if step.save_as is None else frozenset({step.save_as})

    def _map(self, step: StepDefinition, path: str, id: str, known: Fields) -> tuple[Node, Fields]:
        assert step.map is not None
        assert step.do is not None
        if known is not None and step.map.partition(".")[0] not in known:
            raise missing_field(path, step.name or "map", step.map, known)
        inside = None if known is None else known | {step.item}
        hidden = "" if "." in step.map or step.map == step.item else step.map
        outside, self._hidden = self._hidden, self._hidden | {hidden}
        body, written = self._body(step.do, f"{path}.do", f"{id}-n", "item", inside)
        self._hidden = outside
        lists = written is not None and step.save_as is None and step.join != "any"
        node = MapNode(
            id=id,
            name=step.name or "map",
            over=step.map,
            item=step.item,
            body=body,
            limit=step.limit,
            columns=tuple(sorted(written)) if lists and written is not None else (),
            hidden=hidden,
            save_as=step.save_as,
            join=_join(step),
        )
        return node, written if step.save_as is None else frozenset({step.save_as})

    def _branch(self, step: StepDefinition, path: str, id: str, known: Fields) -> tuple[Node, Fields]:
        cases, written = [], list[Fields]()
        for place, case in enumerate(step.branch or ()):
            here = f"{path}.branch[{place}]"
            check_condition(case.when, known, f"{here}.when")
            body, more = self._body(case.do, f"{here}.do", f"{id}-{place}", f"when {case.when}", known)
            cases.append(Case(when=case.when, body=body))
            written.append(more)
        otherwise = None
        if step.otherwise is not None:
            otherwise, more = self._body(step.otherwise, f"{path}.otherwise", f"{id}-{len(cases)}", "otherwise", known)
            written.append(more)
        node = BranchNode(id=id, name=step.name or "branch", cases=tuple(cases), otherwise=otherwise)
        return node, joined(*written)

    def _loop(self, step: StepDefinition, path: str, id: str, known: Fields) -> tuple[Node, Fields]:
        assert step.loop is not None
        assert step.until is not None
        body, written = self._body(step.loop, f"{path}.loop", f"{id}-n", "round", known)
        check_condition(step.until, joined(known, written), f"{path}.until")
        node = LoopNode(id=id, name=step.name or "loop", body=body, until=step.until, at_most=step.at_most)
        return node, written

    def _pipeline(self, step: StepDefinition, path: str, id: str, known: Fields) -> tuple[Node, Fields]:
        """A pipeline within, compiled now: what it is made of does not change under a run."""
        assert step.pipeline is not None
        if step.pipeline in (*self._within, self._definition.name):
            raise InvalidPipeline(
                f"the pipeline {step.pipeline!r} would run itself", path=f"{path}.pipeline", code="recursive_pipeline"
            )
        definition = self._definitions[Reference(step.pipeline, step.version)]
        within = (*self._within, self._definition.name)
        if len(within) > _DEEPEST_PIPELINE:
            raise InvalidPipeline(f"pipelines nested more than {_DEEPEST_PIPELINE} deep", path=f"{path}.pipeline")
        compiler = _Compiler(self._catalog, definition, self._definitions, self._numbers, stored=True, within=within)
        given = {*step.inputs, *step.with_}
        inside = frozenset(given) if step.inputs else None if known is None else (known - self._hidden) | given
        check_there(Reading(step.inputs, ()), known, step.name or step.pipeline, path)
        plan, written = compiler.plan(f"{path}.pipeline({step.pipeline}).", inside)
        node = PipelineNode(
            id=id,
            name=step.name or step.pipeline,
            plan=plan,
            options=step.with_,
            reads=step.inputs,
            reads_all=not step.inputs,
            writes=step.outputs,
            save_as=step.save_as,
            timeout_ms=_milliseconds(step.timeout_s or definition.timeout_s),
            retry=step.retry or RetryPolicy(attempts=1),
        )
        return node, renamed(step, written, path)

    def _task(self, step: StepDefinition, choice: Choice, path: str, id: str, known: Fields) -> tuple[Node, Fields]:
        info = self._catalog.pools[choice.pool][choice.handler]
        signature = signature_of(step, info, path)
        reading = reading_of(step, info, signature, path)
        written = written_by(step, info, signature, path)
        check_there(reading, known, step.name or choice.handler, path)
        check_assertions(step, info, signature, path)
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
            stream=step.stream,
            remember=step.remember,
            affinity=step.affinity,
            limits=step.limits,
        )
        return node, written


def _unstored(what: str, path: str) -> InvalidPipeline:
    return InvalidPipeline(
        f"a step of the kind {what!r} needs a stored run: leave out durability 'none'",
        path=path,
        code="needs_stored_run",
    )


def _wait(step: StepDefinition, id: str) -> tuple[Node, Fields]:
    assert step.wait is not None
    node = WaitNode(
        id=id,
        name=step.name or step.wait,
        signal=step.wait,
        timeout_ms=_milliseconds(step.timeout_s),
        default=step.default,
        writes=step.outputs,
        save_as=step.save_as,
    )
    return node, renamed(step, None, "")


def _join(step: StepDefinition) -> Join:
    return Join(
        kind=step.join, quorum=step.quorum or 0, on_error=step.on_error, timeout_ms=_milliseconds(step.timeout_s)
    )


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
