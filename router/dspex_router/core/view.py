"""A session as clients see it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from msgspec.structs import replace

from dspex_bus.wire import (
    Node,
    ParallelNode,
    SequenceNode,
    SessionView,
    StepFailed,
    StepOutcome,
    StepReport,
    StepSucceeded,
    StepTimedOut,
    TaskNode,
)

from .state import Run, Session, TaskRun


def view(state: Session) -> SessionView:
    """The session with a report for every node of its plan, in the order written, parents before their children."""
    accepted, ended = state.accepted, state.ended
    return SessionView(
        session=state.id,
        pipeline=accepted.plan.pipeline,
        digest=accepted.plan.digest,
        status="running" if ended is None else ended.status,
        accepted_ms=state.accepted_ms,
        ended_ms=state.ended_ms,
        deadline_ms=accepted.deadline_ms,
        cancel_requested=state.cancel_requested,
        input=accepted.input,
        output=None if ended is None else ended.output,
        error=None if ended is None else ended.error,
        plan=accepted.plan,
        steps=tuple(report for child in accepted.plan.root.children for report in _reports(state, child)),
    )


def _reports(state: Session, node: Node) -> Iterator[StepReport]:
    run = state.runs.get(node.id)
    if isinstance(node, TaskNode):
        assert run is None or isinstance(run, TaskRun)
        yield _task(node, run)
        return
    yield _group(node, run)
    for child in node.children:
        yield from _reports(state, child)


def _group(node: SequenceNode | ParallelNode, run: Run | None) -> StepReport:
    kind: Literal["sequence", "parallel"] = "sequence" if isinstance(node, SequenceNode) else "parallel"
    pending = StepReport(node=node.id, name=node.name, kind=kind, status="pending")
    return pending if run is None else replace(pending, status=run.status, error=run.error, **_times(run))


def _task(node: TaskNode, run: TaskRun | None) -> StepReport:
    pending = StepReport(
        node=node.id,
        name=node.name,
        kind="task",
        status="pending",
        implementation=node.implementation,
        handler=node.handler,
        pool=node.pool,
    )
    if run is None:
        return pending
    report = replace(pending, status=run.status, attempt=run.attempt, error=run.error, **_times(run))
    return report if run.status == "running" else replace(report, **_told(run.outcome))


def _times(run: Run) -> dict[str, int]:
    return {"started_ms": run.started_ms, "duration_us": 0 if run.open else 1000 * (run.ended_ms - run.started_ms)}


def _told(outcome: StepOutcome | None) -> dict[str, Any]:
    """What the worker said about the last attempt: better than what the router saw from afar."""
    told: dict[str, Any] = {}
    if isinstance(outcome, StepSucceeded | StepFailed | StepTimedOut) and outcome.started_ms:
        told = {"worker": outcome.worker, "started_ms": outcome.started_ms, "duration_us": outcome.duration_us}
    if isinstance(outcome, StepSucceeded | StepFailed):
        told["usage"] = outcome.usage
    return told
