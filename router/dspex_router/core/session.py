"""A session's machine.

    running ──root ended──────────────────────> ending ──end stored──> ended
    running ──cancel, deadline──> closing ──────^ once no attempt is open
    running, closing ──end stored──> ended      (another owner's proposal won)

``HEARS`` is the table: which events mean something in which phase. Any other is a duplicate or too late, and changes
nothing but a count.
"""

from __future__ import annotations

from typing import assert_never

from dspex_bus.wire import (
    CancelRequested,
    EndStatus,
    SessionAccepted,
    SessionEnded,
    StepCancelled,
    StepFailed,
    StepLost,
    StepSucceeded,
    StepTimedOut,
)

from ..errors import BrokenJournal
from . import task
from .commands import Command, RecordEnd, SetTimer, TellCancelled
from .context import Context
from .ending import end_of, finish
from .events import DeadlinePassed, Event, Recorded, RetryDue
from .state import Phase, Run, SequenceRun, Session, TaskRun
from .tree import abandon, propagate, start

Outcome = (StepSucceeded, StepFailed, StepTimedOut, StepLost, StepCancelled)

HEARS: dict[Phase, tuple[type, ...]] = {
    "running": (*Outcome, CancelRequested, RetryDue, DeadlinePassed, SessionEnded),
    "closing": (*Outcome, SessionEnded),
    "ending": (SessionEnded,),
    "ended": (),
}

CANCEL_REQUESTED = "cancel_requested"
DEADLINE_PASSED = "deadline_passed"
"""Why attempts are abandoned. A fold that meets the second knows that the deadline has passed, whatever the time."""


def decide(state: Session | None, event: Event) -> tuple[Session, list[Command]]:
    """Fold one event. ``state`` is None before ``session.accepted`` and is consumed: use only what is returned.

    Duplicates and stale events change nothing but ``ignored``. Raises BrokenJournal for what only a bug can cause: an
    event before ``session.accepted``, or a second, different one.
    """
    body = event.event if isinstance(event, Recorded) else event
    if state is None or isinstance(body, SessionAccepted):
        return _accept(state, event)
    if isinstance(event, Recorded):
        state.sequence = event.sequence
    if not isinstance(body, HEARS[state.phase]):
        state.ignored += 1
        return state, []
    state.now_ms = max(state.now_ms, event.time_ms)
    commands = _hear(state, event)
    if state.phase in ("running", "closing") and not state.root.open:
        commands.append(_propose_end(state))
    return state, commands


def resume(state: Session) -> list[Command]:
    """The commands that are still open, for a shell that has just folded a journal: attempts to send again, outcomes
    and the end to propose, timers to arm, or the finish."""
    if state.ended is not None:
        return [finish(state, state.ended)]
    if state.proposed is not None:
        return [RecordEnd(state.proposed)]
    commands = [task.opening(state, run) for run in state.runs.values() if isinstance(run, TaskRun) and run.open]
    return [*commands, TellCancelled() if state.phase == "closing" else _deadline(state)]


def _accept(state: Session | None, event: Event) -> tuple[Session, list[Command]]:
    if not isinstance(event, Recorded) or not isinstance(event.event, SessionAccepted):
        raise BrokenJournal(f"{type(event).__name__} came before the session was accepted")
    if state is None:
        return _begin(event, event.event)
    if event.event != state.accepted:
        raise BrokenJournal(f"session {state.id!r} was accepted twice, and differently")
    state.ignored += 1
    return state, []


def _begin(event: Recorded, accepted: SessionAccepted) -> tuple[Session, list[Command]]:
    context = Context(base=Context(accepted.input))
    state = Session(
        partition=event.partition,
        accepted=accepted,
        accepted_ms=event.time_ms,
        now_ms=event.time_ms,
        sequence=event.sequence,
        root=SequenceRun(node=accepted.plan.root, parent=None, context=context, started_ms=event.time_ms),
    )
    if event.time_ms >= accepted.deadline_ms:
        state.closing, state.root.status = "timed_out", "cancelled"
        return state, [_propose_end(state)]
    commands: list[Command] = [_deadline(state)]
    state.root.child = start(state, accepted.plan.root.children[0], state.root, context, commands)
    return state, commands


def _hear(state: Session, event: Event) -> list[Command]:
    match event:
        case RetryDue():
            run = state.runs.get(event.node)
            sent = task.retry(state, run, event) if isinstance(run, TaskRun) else None
            return _ignore(state) if sent is None else sent
        case DeadlinePassed():
            return _close(state, "timed_out", DEADLINE_PASSED, [])
        case Recorded(event=SessionEnded() as ended):
            state.phase, state.ended, state.ended_ms = "ended", ended, event.time_ms
            return [finish(state, ended)]
        case Recorded(event=CancelRequested() as request):
            state.cancel_requested, state.cancel_reason = True, request.reason
            return _close(state, "cancelled", CANCEL_REQUESTED, [])
        case Recorded():
            return _outcome(state, event)
        case _:
            assert_never(event)


def _outcome(state: Session, event: Recorded) -> list[Command]:
    """Fold an attempt's outcome. One stored at or past the run's deadline also says that the deadline has passed."""
    run, outcome = state.runs.get(event.node), event.event
    if not isinstance(run, TaskRun) or not task.expects(run, event):
        return _ignore(state)
    assert isinstance(outcome, Outcome)
    commands = task.record(state, run, outcome)
    ended: list[Run] = [] if run.open else [run]
    late = state.now_ms >= state.accepted.deadline_ms
    if state.phase == "running" and (late or outcome == StepCancelled(reason=DEADLINE_PASSED)):
        return commands + _close(state, "timed_out", DEADLINE_PASSED, ended)
    propagate(state, ended, commands)
    return commands


def _close(state: Session, status: EndStatus, reason: str, ended: list[Run]) -> list[Command]:
    """Start nothing new, and give up what is open. ``ended`` runs are still to be told to their parents."""
    state.phase, state.closing = "closing", status
    commands: list[Command] = []
    ended += abandon(state, state.root, reason, commands)
    if commands:
        commands.append(TellCancelled())
    propagate(state, ended, commands)
    return commands


def _propose_end(state: Session) -> Command:
    state.phase, state.proposed = "ending", end_of(state)
    return RecordEnd(state.proposed)


def _deadline(state: Session) -> Command:
    at_ms = state.accepted.deadline_ms
    return SetTimer(at_ms, DeadlinePassed(time_ms=at_ms))


def _ignore(state: Session) -> list[Command]:
    state.ignored += 1
    return []
