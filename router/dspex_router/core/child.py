"""A step that is a pipeline: a session of its own, started by this one, and reported to it when it ends."""

from __future__ import annotations

import hashlib

from dspex_bus.wire import (
    ErrorInfo,
    Origin,
    Parent,
    PipelineNode,
    SessionAccepted,
    SessionEnded,
    StepCancelled,
    StepFailed,
    StepOutcome,
    StepSucceeded,
    StepTimedOut,
    Watched,
)

from . import budget
from .commands import StartChild
from .state import Session, StepRun
from .task import gather


def session_id(session: Session, run: StepRun) -> str:
    """The same for every owner and every replay; another for another attempt."""
    return child_id(session.id, run.id, run.attempt)


def child_id(parent: str, node: str, attempt: int) -> str:
    return hashlib.blake2b(f"{parent}.{node}.{attempt}".encode(), digest_size=12).hexdigest()


def start(session: Session, run: StepRun, node: PipelineNode) -> StartChild | ErrorInfo:
    """The session that runs the current attempt, or the error of a step that lacks a field."""
    inputs = gather(run, node)
    if isinstance(inputs, ErrorInfo):
        return inputs
    deadline_ms = session.accepted.deadline_ms
    if node.timeout_ms:
        deadline_ms = min(deadline_ms, run.started_ms + node.timeout_ms)
    accepted = SessionAccepted(
        session=session_id(session, run),
        plan=node.plan,
        input={**inputs, **node.options},
        deadline_ms=deadline_ms,
        parent=Parent(session=session.id, partition=session.partition, node=run.id, attempt=run.attempt),
        origin=_origin(session, run),
        budget=budget.left(session),
        tenant=session.accepted.tenant,
        stream=session.accepted.stream,
        thread=session.accepted.thread,
        watched=_watched(session, run) if session.accepted.stream else None,
        priority=session.accepted.priority,
    )
    return StartChild(accepted)


def _origin(session: Session, run: StepRun) -> Origin | None:
    """Of a retry's first attempt: the child that did not succeed in the session it is made from."""
    before = session.accepted.children.get(run.id) if run.attempt == 1 else None
    return None if before is None else Origin(session=before)


def _watched(session: Session, run: StepRun) -> Watched:
    above = session.accepted.watched
    if above is None:
        return Watched(session=session.id, node=run.id)
    return Watched(session=above.session, node=f"{above.node}-{run.id}")


def outcome(ended: SessionEnded, accepted_ms: int, ended_ms: int) -> StepOutcome:
    """A child's end as the outcome of its parent's step."""
    if ended.status == "succeeded":
        took_us = 1000 * (ended_ms - accepted_ms)
        return StepSucceeded(outputs=ended.output or {}, started_ms=accepted_ms, duration_us=took_us, usage=ended.usage)
    assert ended.error is not None
    if ended.status == "cancelled":
        return StepCancelled(reason=ended.error.message)
    return (StepTimedOut if ended.status == "timed_out" else StepFailed)(error=ended.error, usage=ended.usage)
