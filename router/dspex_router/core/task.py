"""One step: its attempts, one after the other, until one succeeds or there is no other.

    running ──succeeded──────────> succeeded
    running ──failed, timed out──> waiting (another attempt follows), or failed, timed_out
    running ──lost, cancelled────> lost, cancelled
    waiting ──retry due──────────> running

An outcome can be recorded while the run is ``waiting``: another owner's timer was faster. It counts like any other.
"""

from __future__ import annotations

from typing import Any, assert_never

from dspex_bus.wire import (
    ErrorInfo,
    StepCancelled,
    StepFailed,
    StepLost,
    StepOutcome,
    StepSucceeded,
    StepTimedOut,
    Task,
    TaskNode,
)

from .commands import Command, Dispatch, RecordOutcome, SetTimer
from .context import MISSING
from .errors import cancelled, located
from .events import Recorded, RetryDue
from .retry import delay_ms
from .state import RunStatus, Session, TaskRun


def opening(session: Session, run: TaskRun) -> Command:
    """What an open run is waiting for: its delay, or its attempt to be run, abandoned, or failed for want of a
    field."""
    node = run.node
    if run.status == "waiting":
        return SetTimer(run.due_ms, RetryDue(time_ms=run.due_ms, node=node.id, attempt=run.attempt))
    if run.abandoned:
        return RecordOutcome(node.pool, node.id, run.attempt, StepCancelled(reason=run.abandoned))
    inputs = _inputs(run)
    if isinstance(inputs, ErrorInfo):
        return RecordOutcome(node.pool, node.id, run.attempt, StepFailed(error=inputs))
    return Dispatch(node.pool, _task(session, run, inputs))


def expects(run: TaskRun, event: Recorded) -> bool:
    """Whether ``event`` can only be the outcome of the run's current attempt, written by the pool that was asked."""
    return run.open and event.attempt == run.attempt and event.pool == run.node.pool


def record(session: Session, run: TaskRun, outcome: StepOutcome) -> list[Command]:
    """Fold an expected outcome: the run ends, or, with the commands returned, goes on to its next attempt."""
    run.outcome = outcome
    match outcome:
        case StepSucceeded():
            run.written = _written(run.node, outcome.outputs)
            run.error = None
            _end(session, run, "succeeded")
        case StepFailed():
            return _fail(session, run, "failed", outcome)
        case StepTimedOut():
            return _fail(session, run, "timed_out", outcome)
        case StepLost():
            run.error = located(outcome.error, run.node)
            _end(session, run, "lost")
        case StepCancelled():
            cancel(session, run, outcome.reason)
        case _:
            assert_never(outcome)
    return []


def retry(session: Session, run: TaskRun, event: RetryDue) -> list[Command] | None:
    """Send the attempt that was waiting; None where the timer is an old one."""
    if run.status != "waiting" or run.attempt != event.attempt:
        return None
    return [_send(session, run)]


def abandon(session: Session, run: TaskRun, reason: str) -> list[Command]:
    """Give up an open run: at once where nothing is sent, else once its attempt's slot is filled.

    A retry that is due counts as sent, whether or not its timer has come: a fold without timers decides the same.
    """
    if run.status == "waiting" and session.now_ms < run.due_ms:
        cancel(session, run, reason)
        return []
    run.status = "running"
    run.abandoned = reason
    return [opening(session, run)]


def cancel(session: Session, run: TaskRun, reason: str) -> None:
    run.error = cancelled(reason, run.node)
    _end(session, run, "cancelled")


def _fail(session: Session, run: TaskRun, status: RunStatus, outcome: StepFailed | StepTimedOut) -> list[Command]:
    """Another attempt, unless the policy or the run's deadline rules it out, or nobody wants it any more."""
    run.error = located(outcome.error, run.node)
    delay = delay_ms(run.node.retry, outcome, session=session.id, node=run.node.id, attempt=run.attempt)
    if run.abandoned or delay is None or session.now_ms + delay >= session.accepted.deadline_ms:
        _end(session, run, status)
        return []
    run.attempt += 1
    run.due_ms = session.now_ms + delay
    if delay == 0:
        return [_send(session, run)]
    run.status = "waiting"
    return [opening(session, run)]


def _send(session: Session, run: TaskRun) -> Command:
    run.status = "running"
    run.started_ms = session.now_ms
    return opening(session, run)


def _end(session: Session, run: TaskRun, status: RunStatus) -> None:
    run.status = status
    run.ended_ms = session.now_ms


def _inputs(run: TaskRun) -> dict[str, Any] | ErrorInfo:
    node, context = run.node, run.context
    inputs: dict[str, Any] = context.whole() if node.reads_all else {}
    for field, path in node.reads.items():
        value = context.get(path)
        if value is not MISSING:
            inputs[field] = value
        elif field not in node.optional:
            return _missing_field(run, field, path)
    return inputs


def _missing_field(run: TaskRun, field: str, path: str) -> ErrorInfo:
    known = sorted(run.context.whole())
    source = "" if path == field else f" (from {path!r})"
    error = ErrorInfo(
        code="missing_field",
        message=f"step {run.node.name!r} needs the field {field!r}{source}; there are: {', '.join(known) or 'none'}",
        details={"field": field, "path": path, "known": known},
    )
    return located(error, run.node)


def _task(session: Session, run: TaskRun, inputs: dict[str, Any]) -> Task:
    node = run.node
    return Task(
        session=session.id,
        node=node.id,
        attempt=run.attempt,
        partition=session.partition,
        handler=node.handler,
        implementation=node.implementation,
        options=node.options,
        inputs=inputs,
        timeout_ms=node.timeout_ms,
        cache_ms=node.cache_ms,
        deadline_ms=session.accepted.deadline_ms,
    )


def _written(node: TaskNode, outputs: dict[str, Any]) -> dict[str, Any]:
    if node.writes:
        outputs = {node.writes.get(name, name): value for name, value in outputs.items()}
    return outputs if node.save_as is None else {node.save_as: outputs}
