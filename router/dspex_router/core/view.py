"""A session as clients see it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from dspex_bus.wire import (
    Node,
    PipelineNode,
    SessionView,
    StepFailed,
    StepOutcome,
    StepReport,
    StepSucceeded,
    StepTimedOut,
    TaskNode,
    members,
)

from . import child, signals
from .state import Counts, Run, Session, StepRun


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
        paused=state.paused,
        waiting_for=signals.wanted(state),
        parent=accepted.parent,
        origin=accepted.origin,
        input=accepted.input,
        output=None if ended is None else ended.output,
        error=None if ended is None else ended.error,
        plan=accepted.plan,
        steps=tuple(report for node in accepted.plan.root.children for report in _reports(state, node)),
        usage=state.usage,
        budget=accepted.budget,
        tenant=accepted.tenant,
    )


def _reports(state: Session, node: Node) -> Iterator[StepReport]:
    yield _report(state, node)
    for below in members(node):
        yield from _reports(state, below)


def _report(state: Session, node: Node) -> StepReport:
    kind: Any = node.__struct_config__.tag
    pending = StepReport(node=node.id, name=node.name, kind=kind, status="pending")
    if isinstance(node, TaskNode):
        pending = replace(pending, implementation=node.implementation, handler=node.handler, pool=node.pool)
    counts = state.counts.get(node.id)
    if counts is not None:
        return replace(pending, **_counted(counts))
    run = state.runs.get(node.id)
    if run is None:
        return pending
    if isinstance(run, StepRun):
        return _step(state, pending, run)
    return replace(pending, status=run.status, error=run.error, **_times(run))


def _counted(counts: Counts) -> dict[str, Any]:
    open = counts.started - counts.succeeded - counts.failed
    status = "running" if open else "failed" if counts.failed else "succeeded"
    return {"status": status, "runs": counts.started, "succeeded": counts.succeeded, "failed": counts.failed}


def _step(state: Session, pending: StepReport, run: StepRun) -> StepReport:
    report = replace(pending, status=run.status, attempt=run.attempt, error=run.error, **_times(run))
    if isinstance(run.node, PipelineNode):
        report = replace(report, child=child.session_id(state, run))
    return report if run.status == "running" else replace(report, **_told(run.outcome))


def _times(run: Run) -> dict[str, int]:
    return {"started_ms": run.started_ms, "duration_us": 0 if run.open else 1000 * (run.ended_ms - run.started_ms)}


def _told(outcome: StepOutcome | None) -> dict[str, Any]:
    """What the worker said about the last attempt: better than what the router saw from afar."""
    told: dict[str, Any] = {}
    if isinstance(outcome, StepSucceeded | StepFailed | StepTimedOut) and outcome.started_ms:
        told = {"worker": outcome.worker, "started_ms": outcome.started_ms, "duration_us": outcome.duration_us}
    if isinstance(outcome, StepSucceeded | StepFailed | StepTimedOut):
        told["usage"] = outcome.usage
    if isinstance(outcome, StepSucceeded):
        told["program"] = outcome.program
    return told
