"""Evaluations: a program over a data set, as a run like any other, and two programs compared.

report = await dx.evaluate("qa@production", "dev.jsonl", metric="exact_match")
print(report.summary.score, report.summary.low, report.summary.high)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from dspex_bus.errors import InvalidRequest
from dspex_bus.signatures import read_signature
from dspex_bus.wire import (
    PipelineDefinition,
    RunResult,
    StepDefinition,
    StepFailed,
    StepLost,
    StepSucceeded,
    StepTimedOut,
    StoredEvent,
    Usage,
)
from dspex_services.evaluation.datasets import Dataset, DataSource, load_dataset
from dspex_services.evaluation.metrics import check_labels
from dspex_services.evaluation.statistics import Comparison, Summary, compare, summary
from dspex_services.evaluation.steps import EXAMPLES, RUN_NODE, SCORE_NODE, evaluation

from .serving import Metric, metric_for

if TYPE_CHECKING:
    from .client import Client
    from .sessions import Session

Target = StepDefinition | PipelineDefinition | str
"""A step, a pipeline, or the name of a stored program (``name``, ``name@tag``, ``name@version``)."""

DEFAULT_TIMEOUT_S = 86_400.0
_LARGEST_PARALLEL = 1024


@dataclass
class Row:
    """One example: what was predicted, how good that is (0 to 1, None until it is scored), or what went wrong."""

    example: dict[str, Any]
    prediction: dict[str, Any] | None = None
    score: float | None = None
    feedback: str = ""
    error: str = ""

    @property
    def over(self) -> bool:
        return self.score is not None or bool(self.error)


@dataclass
class Evaluation:
    """How a program does on a data set; while it runs, as far as it is. ``usage`` counts the programs' LM calls and
    the metric's."""

    target: str
    metric: str
    dataset: Dataset
    session: str = ""
    usage: Usage = field(default_factory=Usage)
    took_s: float = 0.0
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = self.rows or [Row(example) for example in self.dataset.rows]

    @property
    def scores(self) -> list[float]:
        """By example; one that failed, or has not ended, counts 0."""
        return [row.score or 0.0 for row in self.rows]

    @property
    def done(self) -> int:
        return sum(row.over for row in self.rows)

    @property
    def failed(self) -> int:
        return sum(bool(row.error) for row in self.rows)

    @property
    def summary(self) -> Summary:
        """The score with its confidence interval."""
        return summary(self.scores, self.failed)

    def against(self, other: Evaluation) -> Comparison:
        """This one as the first, the other as the second. Raises InvalidRequest where the examples differ."""
        if other.dataset.digest != self.dataset.digest:
            raise InvalidRequest("the two evaluations are not of the same examples", code="invalid_dataset")
        return compare(self.scores, other.scores)

    def take(self, event: StoredEvent) -> Row | None:
        """Fold one of the session's events; the row it was about."""
        place = _place(event.node)
        outcome = event.event
        if place is None or place[0] >= len(self.rows):
            return None
        row, scored = self.rows[place[0]], place[1]
        if isinstance(outcome, StepSucceeded | StepFailed) and outcome.usage is not None:
            self.usage = self.usage.plus(outcome.usage)
        match outcome:
            case StepSucceeded() if scored:
                row.score, row.error = float(outcome.outputs.get("score", 0.0)), ""
                row.feedback = str(outcome.outputs.get("feedback", ""))
            case StepSucceeded():
                row.prediction, row.error = outcome.outputs, ""
            case StepFailed() | StepTimedOut() | StepLost():
                row.error = f"{outcome.error.code}: {outcome.error.message}"
            case _:
                return None
        return row


OnRow = Callable[[Evaluation, Row], None]


async def evaluate(
    client: Client,
    target: Target,
    dataset: DataSource | Dataset,
    *,
    metric: Metric = "exact_match",
    inputs: Sequence[str] | None = None,
    parallel: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    session: str | None = None,
    on_row: OnRow | None = None,
) -> Evaluation:
    """Run ``target`` on every example and score what it answers.

    A ``metric`` that is a function is called here, unless workers can import it.
    ``inputs`` are the fields that are asked; without it they are those of the step's signature. ``parallel`` bounds how
    many examples are in work at once; without it that is twice what the pools have slots for. Raises RunFailed when the
    run did not succeed; an example's failure counts 0 and is told in its row."""
    examples = dataset if isinstance(dataset, Dataset) else load_dataset(dataset)
    step, signature = await target_step(client, target)
    asked = _asked(step, signature, inputs, examples)
    served, spec = await metric_for(client.bus, metric)
    try:
        check_labels(spec, examples.fields, asked)
        definition = evaluation(step, spec, asked, parallel=parallel or await _room(client), name="evaluation")
        handle = await client.submit(definition, {EXAMPLES: list(examples.rows)}, timeout_s=timeout_s, session=session)
        report = Evaluation(_label(target, step), spec.label, examples, handle.id)
        await _followed(handle, report, on_row)
    finally:
        if served is not None:
            await served.close()
    return report


async def _followed(handle: Session, report: Evaluation, on_row: OnRow | None) -> RunResult:
    from ._runs import raise_unless_succeeded

    began = 0
    async for event in handle.events():
        began = began or event.time_ms
        report.took_s = (event.time_ms - began) / 1000
        row = report.take(event)
        if row is not None and on_row is not None:
            on_row(report, row)
    result = await handle.result(timeout_s=30)
    raise_unless_succeeded(result)
    return result


async def target_step(client: Client, target: Target) -> tuple[StepDefinition, Any]:
    """The step that runs the target, and the signature of what it is asked, None where that is not known: a stored
    program by its digest, as it is now; an inline pipeline under a name of its own, so that nobody else's is
    replaced."""
    if isinstance(target, StepDefinition):
        return target, target.with_.get("signature")
    if isinstance(target, PipelineDefinition):
        stored = await client.put_pipeline(msgspec.structs.replace(target, name=f"evaluated-{target.name}"[:64]))
        return StepDefinition(pipeline=stored.name, version=stored.version), None
    version = await client.programs.version(target)
    origin = version.origin
    name = target.partition("@")[0]
    if not origin.module:
        raise InvalidRequest(
            f"the program {target} does not say which module it is of; import it with --module, or evaluate a step "
            "that names it",
            code="invalid_program",
        )
    if origin.inner is not None:  # only its origin, and no state, says how it is put together
        return StepDefinition(module="dspy.Program", with_={"program": f"{name}@{version.version}"}), origin.asked
    constants: dict[str, Any] = {"program": f"{name}@{version.digest}"}
    if origin.signature is not None:
        constants["signature"] = origin.signature
    if origin.instructions is not None:
        constants["instructions"] = origin.instructions
    return StepDefinition(module=origin.module, with_=constants), origin.signature


def _asked(step: StepDefinition, signature: Any, given: Sequence[str] | None, examples: Dataset) -> tuple[str, ...]:
    said = given if given is not None else examples.inputs
    names = list(said) if said is not None else None
    if names is None and isinstance(signature, str | dict):
        names = [
            one.name for one in read_signature(signature).inputs if not one.optional or one.name in examples.fields
        ]
    if names is None:
        raise InvalidRequest(
            "say which of the examples' fields are asked, with inputs (--inputs); there are: "
            + ", ".join(examples.fields),
            code="missing_field",
        )
    for place, row in enumerate(examples.rows, 1):
        for name in names:
            if name not in row and name not in step.inputs:
                raise InvalidRequest(
                    f"example {place} of {examples.name} has no field {name!r}; it has: {', '.join(row)}",
                    code="missing_field",
                )
    return tuple(name for name in names if name not in step.inputs)


async def _room(client: Client) -> int:
    slots = sum(pool.slots for pool in (await client.pools()).pools)
    return min(_LARGEST_PARALLEL, max(1, 2 * slots))


def _label(target: Target, step: StepDefinition) -> str:
    if isinstance(target, str):
        return target
    if isinstance(target, PipelineDefinition):
        return target.name
    return step.name or step.module or step.native or step.call or step.pipeline or "step"


def _place(node: str) -> tuple[int, bool] | None:
    """The example's place, and whether it is its scoring; None for other nodes."""
    parts = node.split("-")
    run, score = RUN_NODE.split("-"), SCORE_NODE.split("-")
    if len(parts) != len(run) or parts[0] != run[0] or not parts[1].isdecimal():
        return None
    return int(parts[1]), parts[2] == score[2]
