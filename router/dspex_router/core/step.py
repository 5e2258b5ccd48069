"""One step: its attempts, one after the other, until one succeeds or there is no other.

    running ──succeeded──────────> succeeded
    running ──failed, timed out──> waiting (another attempt follows), or failed, timed_out
    running ──lost, cancelled────> lost, cancelled
    waiting ──retry due──────────> running

A task is run by a worker, a pipeline by a session of its own; a sleep and a wait end by what the router itself records
in their slot. An outcome can be recorded while the run is ``waiting``: another owner's timer was faster. It counts like
any other.
"""

from __future__ import annotations

from typing import Any, assert_never

from dspex_bus.context import written
from dspex_bus.subjects import ROUTER_POOL
from dspex_bus.wire import (
    ErrorInfo,
    PipelineNode,
    RetryPolicy,
    SleepNode,
    StepCancelled,
    StepFailed,
    StepLost,
    StepNode,
    StepOutcome,
    StepSucceeded,
    StepTimedOut,
    TaskNode,
    WaitNode,
)

from . import child, fusing, signals, task
from .commands import Command, RecordOutcome, SetTimer, TellChild
from .errors import cancelled, failure, located
from .events import Recorded, RetryDue, StepDue
from .retry import delay_ms
from .state import OPEN, RunStatus, Session, StepRun

_ONCE = RetryPolicy(attempts=1)


def begin(session: Session, run: StepRun) -> list[Command]:
    """Start a run. One that travelled with a step before it, or whose outputs are kept from another session, has
    succeeded already."""
    ready = fusing.take(run)
    if ready is not None:
        return record(session, run, ready)
    kept = session.accepted.kept.get(run.id)
    if kept is not None:
        run.written = written_by(run.node, kept)
        _end(session, run, "succeeded")
        return []
    if isinstance(run.node, SleepNode):
        run.due_ms = run.started_ms + run.node.duration_ms
    elif isinstance(run.node, WaitNode):
        run.due_ms = run.started_ms + run.node.timeout_ms if run.node.timeout_ms else 0
        session.waits[run.id] = run
        signals.take(session, run)
    else:
        run.held = session.paused
    return opening(session, run)


def opening(session: Session, run: StepRun) -> list[Command]:
    """What an open run is waiting for: its delay, or its attempt to be run, abandoned, or failed for want of a
    field. Nothing where it is held."""
    if run.status == "waiting":
        return [SetTimer(run.due_ms, RetryDue(time_ms=run.due_ms, node=run.id, attempt=run.attempt))]
    if run.abandoned:
        return [propose(run, StepCancelled(reason=run.abandoned))]
    match run.node:
        case TaskNode() | PipelineNode():
            return [] if run.held else [_sent(session, run, run.node)]
        case SleepNode():
            return [_due(run)]
        case WaitNode():
            if run.taken is not None:
                return [propose(run, StepSucceeded(outputs=run.taken.payload, **_since(session, run)))]
            return [_due(run)] if run.due_ms else []
        case _:
            assert_never(run.node)


def expects(run: StepRun, event: Recorded) -> bool:
    """Whether ``event`` can only be the outcome of the run's current attempt, written by the pool that was asked."""
    return run.status in OPEN and event.attempt == run.attempt and event.pool == _pool(run.node)


def record(session: Session, run: StepRun, outcome: StepOutcome) -> list[Command]:
    """Fold an expected outcome: the run ends, or, with the commands returned, goes on to its next attempt."""
    run.outcome = outcome
    if run.taken is not None and not isinstance(outcome, StepSucceeded):
        signals.give_back(session, run)
    match outcome:
        case StepSucceeded():
            run.written = written_by(run.node, outcome.outputs)
            run.error = None
            if isinstance(run.node, TaskNode) and run.node.affinity and outcome.worker:
                session.homes[run.node.pool] = outcome.worker
            if outcome.then and isinstance(run.node, TaskNode):
                fusing.keep(session, run, run.node, outcome)
            _end(session, run, "succeeded")
        case StepFailed():
            return _fail(session, run, "failed", outcome)
        case StepTimedOut():
            return _fail(session, run, "timed_out", outcome)
        case StepLost():
            run.error = located(outcome.error, run)
            _end(session, run, "lost")
        case StepCancelled():
            cancel(session, run, outcome.reason)
        case _:
            assert_never(outcome)
    return []


def retry(session: Session, run: StepRun, event: RetryDue) -> list[Command] | None:
    """Send the attempt that was waiting; None where the timer is an old one."""
    if run.status != "waiting" or run.attempt != event.attempt:
        return None
    return _send(session, run)


def release(session: Session, run: StepRun) -> list[Command]:
    """Send the attempt that was held back while the session was paused."""
    run.held = False
    return opening(session, run)


def due(session: Session, run: StepRun) -> list[Command] | None:
    """What to record of a sleep or a wait whose time is over; None where the timer is an old one."""
    if not run.open or run.abandoned or run.taken is not None:
        return None
    match run.node:
        case SleepNode():
            return [propose(run, StepSucceeded(outputs={}, **_since(session, run)))]
        case WaitNode() as node if node.default is not None:
            return [propose(run, StepSucceeded(outputs=node.default, **_since(session, run)))]
        case WaitNode() as node:
            message = f"no signal {node.signal!r} came within {node.timeout_ms / 1000:g} s"
            error = failure(run, "wait_timed_out", message, signal=node.signal)
            return [propose(run, StepTimedOut(error=error, **_since(session, run)))]
    return None


def abandon(session: Session, run: StepRun, reason: str) -> list[Command]:
    """Give up an open run: at once where nothing is sent, else once its attempt's slot is filled.

    A retry that is due counts as sent, or as held, whether or not its timer has come: a fold without timers decides the
    same.
    """
    if run.held or (run.status == "waiting" and (session.now_ms < run.due_ms or _due_in_pause(session, run))):
        cancel(session, run, reason)
        return []
    run.status = "running"
    run.abandoned = reason
    commands = opening(session, run)
    if isinstance(run.node, PipelineNode):
        commands.append(TellChild(child.session_id(session, run), "cancel"))
    return commands


def cancel(session: Session, run: StepRun, reason: str) -> None:
    run.error = cancelled(reason, run)
    _end(session, run, "cancelled")


def propose(run: StepRun, outcome: StepOutcome) -> Command:
    return RecordOutcome(_pool(run.node), run.id, run.attempt, outcome)


def _pool(node: StepNode) -> str:
    return node.pool if isinstance(node, TaskNode) else ROUTER_POOL


def _sent(session: Session, run: StepRun, node: TaskNode | PipelineNode) -> Command:
    made = task.dispatch(session, run, node) if isinstance(node, TaskNode) else child.start(session, run, node)
    return propose(run, StepFailed(error=made)) if isinstance(made, ErrorInfo) else made


def _fail(session: Session, run: StepRun, status: RunStatus, outcome: StepFailed | StepTimedOut) -> list[Command]:
    """Another attempt, unless the policy or the run's deadline rules it out, or nobody wants it any more."""
    run.error = located(outcome.error, run)
    policy = run.node.retry if isinstance(run.node, TaskNode | PipelineNode) else _ONCE
    delay = delay_ms(policy, outcome, session=session.id, node=run.id, attempt=run.attempt)
    if run.abandoned or delay is None or session.now_ms + delay >= session.accepted.deadline_ms:
        _end(session, run, status)
        return []
    run.attempt += 1
    run.due_ms = session.now_ms + delay
    if delay == 0:
        return _send(session, run)
    run.status = "waiting"
    return opening(session, run)


def _send(session: Session, run: StepRun) -> list[Command]:
    run.status = "running"
    run.started_ms = session.now_ms
    run.held = _due_in_pause(session, run)
    return opening(session, run)


def _due_in_pause(session: Session, run: StepRun) -> bool:
    return session.paused and run.due_ms >= session.paused_ms


def _end(session: Session, run: StepRun, status: RunStatus) -> None:
    run.status = status
    run.held = False
    run.ended_ms = session.now_ms
    if session.waits:
        session.waits.pop(run.id, None)


def _due(run: StepRun) -> Command:
    return SetTimer(run.due_ms, StepDue(time_ms=run.due_ms, node=run.id))


def _since(session: Session, run: StepRun) -> dict[str, Any]:
    return {"started_ms": run.started_ms, "duration_us": 1000 * (session.now_ms - run.started_ms)}


def written_by(node: StepNode, outputs: dict[str, Any]) -> dict[str, Any]:
    """The fields of the context that a step's outputs become."""
    if isinstance(node, SleepNode):
        return {}
    return written(outputs, node.writes, node.save_as)
