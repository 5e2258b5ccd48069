"""A session's machine.

    running ──root ended──────────────────────> ending ──end stored──> ended
    running ──cancel, deadline──> closing ──────^ once no attempt is open
    running, closing ──end stored──> ended      (another owner's proposal won)

A session that is paused starts nothing; what runs goes on.

``HEARS`` is the table: which events mean something in which phase. Any other is a duplicate or too late, and changes
nothing but a count.
"""

from __future__ import annotations

from typing import assert_never

from dspex_bus.context import Context
from dspex_bus.subjects import ROUTER_POOL
from dspex_bus.wire import (
    CancelRequested,
    EndStatus,
    PipelineNode,
    SessionAccepted,
    SessionEnded,
    SessionPaused,
    SessionResumed,
    SignalReceived,
    StepCancelled,
    StepFailed,
    StepLost,
    StepOutcome,
    StepSucceeded,
    StepTimedOut,
)

from ..errors import BrokenJournal
from . import budget, child, join, signals, step
from .commands import Command, RecordEnd, RecordOutcome, SetTimer, TellCancelled, TellChild
from .ending import end_of, finish
from .events import DeadlinePassed, Event, Recorded, RetryDue, StepDue
from .state import MapRun, ParallelRun, Phase, SequenceRun, Session, StepRun
from .tree import Growth

Outcome = (StepSucceeded, StepFailed, StepTimedOut, StepLost, StepCancelled)
Asked = (CancelRequested, SessionPaused, SessionResumed, SignalReceived)
_CONTROLS = (SessionPaused, SessionResumed)

HEARS: dict[Phase, tuple[type, ...]] = {
    "running": (
        *Outcome,
        *Asked,
        RetryDue,
        StepDue,
        DeadlinePassed,
        SessionEnded,
    ),
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
    if not _is_new(state, event) or not isinstance(body, HEARS[state.phase]):
        return state, _heard(state, None)
    state.now_ms = max(state.now_ms, event.time_ms)
    commands = _hear(state, event)
    if state.phase in ("running", "closing") and not state.root.open:
        commands.append(_propose_end(state))
    return state, commands


def resume(state: Session) -> list[Command]:
    """The commands that are still open, for a shell that has just folded a journal: attempts to send again, outcomes
    and the end to propose, timers to arm, or the finish."""
    if state.ended is not None:
        return [finish(state.accepted, state.ended, state.accepted_ms, state.ended_ms)]
    if state.proposed is not None:
        return [RecordEnd(state.proposed)]
    commands: list[Command] = []
    for run in state.runs.values():
        if isinstance(run, StepRun) and run.open:
            commands += step.opening(state, run)
            if state.paused_ms:
                commands += _told_child(state, run)
        elif isinstance(run, ParallelRun | MapRun) and run.open and not run.settled:
            commands += join.deadline(run)
    return [*commands, TellCancelled() if state.phase == "closing" else _deadline(state)]


def is_over(state: Session, node: str, attempt: int) -> bool:
    """Whether an attempt that was sent is known to have ended. Of one that is not known it is not: it may be about to
    be."""
    run = state.runs.get(node)
    return isinstance(run, StepRun) and (not run.open or attempt < run.attempt)


def _is_new(state: Session, event: Event) -> bool:
    """Whether ``event`` is none that was folded before. Every control takes a slot, heard or not."""
    if isinstance(event, Recorded):
        if event.sequence <= state.sequence:
            return False
        state.sequence = event.sequence
        state.length += 1
        if isinstance(event.event, _CONTROLS):
            state.controls += 1
    return True


def _accept(state: Session | None, event: Event) -> tuple[Session, list[Command]]:
    if not isinstance(event, Recorded) or not isinstance(event.event, SessionAccepted):
        raise BrokenJournal(f"{type(event).__name__} came before the session was accepted")
    if state is None:
        return _begin(event, event.event)
    if event.event != state.accepted:
        raise BrokenJournal(f"session {state.id!r} was accepted twice, and differently")
    state.ignored += 1
    return state, []


def fresh(event: Recorded, accepted: SessionAccepted) -> Session:
    """A session of which nothing has been started."""
    context = Context(base=Context(accepted.input))
    return Session(
        partition=event.partition,
        accepted=accepted,
        accepted_ms=event.time_ms,
        now_ms=event.time_ms,
        sequence=event.sequence,
        root=SequenceRun(
            id=accepted.plan.root.id, node=accepted.plan.root, parent=None, context=context, started_ms=event.time_ms
        ),
    )


def _begin(event: Recorded, accepted: SessionAccepted) -> tuple[Session, list[Command]]:
    state = fresh(event, accepted)
    if event.time_ms >= accepted.deadline_ms:
        state.closing, state.root.status = "timed_out", "cancelled"
        return state, [_propose_end(state)]
    growth = Growth(state)
    growth.plant(state.root)
    growth.propagate()
    commands = [_deadline(state), *growth.commands]
    if not state.root.open:
        commands.append(_propose_end(state))
    return state, commands


def _hear(state: Session, event: Event) -> list[Command]:
    match event:
        case Recorded():
            return _outcome(state, event) if isinstance(event.event, Outcome) else _told(state, event)
        case RetryDue():
            run = state.runs.get(event.node)
            return _heard(state, step.retry(state, run, event) if isinstance(run, StepRun) else None)
        case StepDue():
            return _heard(state, _due(state, event))
        case DeadlinePassed():
            return _close(state, "timed_out", DEADLINE_PASSED, Growth(state))
        case _:
            assert_never(event)


def _told(state: Session, event: Recorded) -> list[Command]:
    """Fold what is no attempt's outcome."""
    body = event.event
    if isinstance(body, SessionEnded):
        state.phase, state.ended, state.ended_ms = "ended", body, event.time_ms
        return [finish(state.accepted, body, state.accepted_ms, state.ended_ms)]
    if _is_late(state):
        return _close(state, "timed_out", DEADLINE_PASSED, Growth(state))
    if isinstance(body, CancelRequested):
        state.cancel_requested, state.cancel_reason = True, body.reason
        return _close(state, "cancelled", CANCEL_REQUESTED, Growth(state))
    if isinstance(body, SignalReceived):
        run = signals.receive(state, body)
        return [] if run is None else step.opening(state, run)
    return _control(state, paused=isinstance(body, SessionPaused))


def _heard(state: Session, commands: list[Command] | None) -> list[Command]:
    """``commands``, or, for None, note that the event meant nothing."""
    if commands is None:
        state.ignored += 1
        return []
    return commands


def _due(state: Session, event: StepDue) -> list[Command] | None:
    run = state.runs.get(event.node)
    if isinstance(run, StepRun):
        return step.due(state, run)
    if isinstance(run, ParallelRun | MapRun) and run.open and not run.settled and not run.abandoned:
        return [RecordOutcome(ROUTER_POOL, run.id, 1, StepTimedOut(error=join.timed_out(run)))]
    return None


def _control(state: Session, *, paused: bool) -> list[Command]:
    """Pause or resume: what was held meanwhile is sent, and children are told."""
    if paused == state.paused:
        return _heard(state, None)
    state.paused, state.paused_ms = paused, state.now_ms
    commands: list[Command] = []
    for run in state.runs.values():
        if not isinstance(run, StepRun) or not run.open:
            continue
        commands += step.release(state, run) if run.held else _told_child(state, run)
    return commands


def _told_child(state: Session, run: StepRun) -> list[Command]:
    """A child that runs is paused and resumed with its parent. It is told again by whoever takes the parent over."""
    if not isinstance(run.node, PipelineNode) or run.status != "running" or run.held or run.abandoned:
        return []
    return [TellChild(child.session_id(state, run), "pause" if state.paused else "resume")]


def _is_late(state: Session) -> bool:
    """What is stored at or past the run's deadline says that it has passed: a fold without timers decides the same."""
    return state.now_ms >= state.accepted.deadline_ms


def _outcome(state: Session, event: Recorded) -> list[Command]:
    """Fold an attempt's outcome."""
    run, outcome = state.runs.get(event.node), event.event
    assert isinstance(outcome, Outcome)
    growth = Growth(state)
    if isinstance(run, StepRun) and step.expects(run, event):
        budget.count(state, outcome)
        growth.commands += step.record(state, run, outcome)
        if not run.open:
            growth.end(run)
    elif isinstance(run, ParallelRun | MapRun) and _times_out(run, event):
        join.settle(run, "timed_out")
        growth.abandon_branches(run)
    else:
        return _heard(state, None)
    if state.phase == "running" and (_is_late(state) or _says_late(outcome)):
        return _close(state, "timed_out", DEADLINE_PASSED, growth)
    growth.propagate()
    if growth.commands and state.phase == "running" and (told := _abandoned(growth.commands)):
        growth.commands.append(TellCancelled(told))
    return growth.commands


def _says_late(outcome: StepOutcome) -> bool:
    return isinstance(outcome, StepCancelled) and outcome.reason == DEADLINE_PASSED


def _times_out(run: ParallelRun | MapRun, event: Recorded) -> bool:
    return run.open and not run.settled and event.pool == ROUTER_POOL and isinstance(event.event, StepTimedOut)


def _abandoned(commands: list[Command]) -> tuple[tuple[str, int], ...]:
    """The attempts that workers should hear of: they may run, and nobody wants them any more."""
    return tuple(
        (command.node, command.attempt)
        for command in commands
        if isinstance(command, RecordOutcome)
        and command.pool != ROUTER_POOL
        and isinstance(command.outcome, StepCancelled)
    )


def _close(state: Session, status: EndStatus, reason: str, growth: Growth) -> list[Command]:
    """Start nothing new, and give up what is open. ``growth`` may have runs whose parents are still to be told."""
    state.phase, state.closing = "closing", status
    before = len(growth.commands)
    growth.abandon(state.root, reason)
    if len(growth.commands) > before:
        growth.commands.append(TellCancelled())
    growth.propagate()
    return growth.commands


def _propose_end(state: Session) -> Command:
    state.phase, state.proposed = "ending", end_of(state)
    return RecordEnd(state.proposed)


def _deadline(state: Session) -> Command:
    at_ms = state.accepted.deadline_ms
    return SetTimer(at_ms, DeadlinePassed(time_ms=at_ms))
