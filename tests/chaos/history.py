"""What must hold of any history, whatever was killed, stopped, cut off or restarted while it was made.

``check`` reads the whole journal and what clients and workers saw, and says what is wrong. It is written against the
promises of docs/architecture.md and shares no code with the router's core.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from dspex_bus.subjects import ROUTER_POOL
from dspex_bus.wire import (
    CancelRequested,
    ErrorInfo,
    JournalEvent,
    PipelineNode,
    RunResult,
    SessionAccepted,
    SessionEnded,
    StepCancelled,
    StepFailed,
    StepSucceeded,
    StepTimedOut,
    TaskNode,
)
from dspex_bus.wire.plan import find

from .joins import is_join_s, joins
from .journal import History, Kept, histories
from .times import CLOCK_MS, least_delay_ms

LATE = "deadline_exceeded"
"""The error of a step that the run's deadline cut short."""

DAMAGED = "damaged"
"""The error of a step that was sent something else than what its digest says."""

TOKEN = "token"
"""The output in which a step of the tests returns what no other execution returns."""

UNCOUNTED = 2
"""Ticks that a schedule may have had and not count."""

TOLD_MS = 1_000
"""A worker that runs steps one after the other has heard of a cancel by then."""


@dataclass(frozen=True)
class Execution:
    """A worker started a handler on an attempt; ``token`` is what it would return. ``along``: it may have travelled
    with a step before it, and so have begun while the worker was being told of a cancel. ``under``: its limit."""

    session: str
    node: str
    attempt: int
    at_ms: int
    token: str
    along: bool = False
    under: str = ""


@dataclass(frozen=True)
class Acknowledged:
    """A client was told that its cancel request stands: when, and how far the journal had come then."""

    at_ms: int
    sequence: int


@dataclass
class Observed:
    """``accepted``: submits that were answered. ``results``: every answer to a question for a session's result.
    ``limits``: how many steps under each may run at once. ``schedules``: how many seconds are between two ticks of
    each, and how many it has had."""

    accepted: set[str] = field(default_factory=set)
    results: list[RunResult] = field(default_factory=list)
    cancelled: dict[str, Acknowledged] = field(default_factory=dict)
    executions: list[Execution] = field(default_factory=list)
    limits: dict[str, int] = field(default_factory=dict)
    schedules: dict[str, tuple[float, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Violation:
    rule: str
    session: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: session {self.session}: {self.what}"


def check(journal: Sequence[Kept], observed: Observed) -> list[Violation]:
    """Everything that is wrong; nothing where all is as promised."""
    found = histories(journal)
    wrong = [
        Violation("accepted", session, "a client was told that it is accepted, and the journal does not know it")
        for session in sorted(observed.accepted - found.keys())
    ]
    for history in found.values():
        for rule in (begins_and_ends_once, slots_once, attempts_in_turn, cause_of_end, intact):
            wrong += [Violation(rule.__name__, history.session, what) for what in rule(history)]
        wrong += [Violation("joins", history.session, what) for what in joins(history)]
        wrong += [Violation("children", history.session, what) for what in children(history, found)]
    wrong += results_agree(found, observed)
    wrong += executions_in_turn(found, observed)
    wrong += cancels_are_kept(found, observed)
    wrong += limits_hold(found, observed)
    wrong += ticks_once(found, observed)
    return wrong


def begins_and_ends_once(history: History) -> Iterator[str]:
    if history.accepted is None:
        yield f"it begins with {type(history.events[0].event).__name__}"
    if len(history.of(SessionAccepted)) > 1:
        yield "it was accepted more than once"
    ends = history.of(SessionEnded)
    if len(ends) != 1:
        yield f"it has {len(ends)} ends"
    for kept in history.events:
        if ends and kept.kind == "step" and kept.sequence > ends[0].sequence and not _means_nothing(kept):
            yield f"an outcome of {kept.node}.{kept.attempt} was accepted after its end"


_GIVEN_UP = ("not_needed", "sibling_failed", "join_timed_out", "cancel_requested", "deadline_passed")
"""Why a router gives attempts up."""


def _means_nothing(kept: Kept) -> bool:
    """What a router that was away gave up, when it is back: it may have been about to send what another knew to be
    waiting still. What a worker says of an attempt that was cancelled is none of that."""
    event = kept.event
    return is_join_s(kept) or (isinstance(event, StepCancelled) and event.reason in _GIVEN_UP)


def slots_once(history: History) -> Iterator[str]:
    seen: set[str] = set()
    for kept in history.events:
        if kept.slot in seen:
            yield f"the slot {kept.slot} was filled twice"
        seen.add(kept.slot)
    for node, outcomes in history.outcomes.items():
        if sum(isinstance(kept.event, StepSucceeded) for kept in outcomes) > 1:
            yield f"the step {node} has more than one success"


def attempts_in_turn(history: History) -> Iterator[str]:
    for node, outcomes in history.outcomes.items():
        numbers = [kept.attempt for kept in outcomes]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"the attempts of {node} were stored as {numbers}"
        for kept in outcomes[:-1]:
            if not isinstance(kept.event, StepFailed | StepTimedOut):
                yield f"{node}.{kept.attempt} was {type(kept.event).__name__}, and another attempt followed"


def cause_of_end(history: History) -> Iterator[str]:
    """An end that was asked for was asked for, and a router never gives a session up for reasons of its own."""
    ended, accepted = history.ended, history.accepted
    if ended is None or accepted is None:
        return
    assert isinstance(ended.event, SessionEnded)
    end = ended.event
    if (end.output is not None) != (end.status == "succeeded") or (end.error is None) != (end.status == "succeeded"):
        yield f"it ended {end.status} with output {end.output} and error {end.error}"
    if end.error is not None and end.error.code == "internal":
        yield f"it ended with an internal error: {end.error.message}"
    asked = [kept for kept in history.of(CancelRequested) if kept.sequence < ended.sequence]
    if end.status == "cancelled" and not asked:
        yield "it ended cancelled, and nobody had asked for that"
    if end.status == "timed_out" and ended.time_ms < accepted.deadline_ms - CLOCK_MS:
        yield f"it timed out {accepted.deadline_ms - ended.time_ms} ms before its deadline"
    for kept in history.of(StepTimedOut):
        early_ms = accepted.deadline_ms - kept.time_ms
        if isinstance(kept.event, StepTimedOut) and kept.event.error.code == LATE and early_ms > CLOCK_MS:
            yield f"{kept.node}.{kept.attempt} was past the run's deadline {early_ms} ms before that"


def intact(history: History) -> Iterator[str]:
    """What is carried beside the messages arrives as it was."""
    for kept in history.events:
        match kept.event:
            case StepFailed(error=ErrorInfo(code=code)) if code == DAMAGED:
                yield f"{kept.node}.{kept.attempt} was sent something else than what it was to be sent"
            case StepSucceeded(outputs={"large": large, "digest": digest}):
                if hashlib.sha256(large.encode()).hexdigest() != digest:
                    yield f"the outputs of {kept.node}.{kept.attempt} are not what it returned"
            case SessionEnded(output={"large": large, "digest": digest}):
                if hashlib.sha256(large.encode()).hexdigest() != digest:
                    yield "its output is not what its last step returned"


def children(history: History, found: dict[str, History]) -> Iterator[str]:
    """A child's end is its parent's outcome, and no child outlives what started it."""
    accepted = history.accepted
    if accepted is None or accepted.parent is None:
        return
    parent = found.get(accepted.parent.session)
    if parent is None:
        yield f"its parent {accepted.parent.session} is not in the journal"
        return
    outcomes = [kept for kept in parent.outcomes[accepted.parent.node] if kept.attempt == accepted.parent.attempt]
    if history.ended is None:
        if parent.ended is not None:
            yield "its parent has ended, and it has not"
        return
    end = history.ended.event
    assert isinstance(end, SessionEnded)
    for kept in outcomes:
        if isinstance(kept.event, StepSucceeded) and (end.status != "succeeded" or kept.event.outputs != end.output):
            yield f"its parent took {kept.event.outputs} for its result; it ended {end.status} with {end.output}"
        if isinstance(kept.event, StepSucceeded) and kept.sequence < history.ended.sequence:
            yield "its parent had its result before it ended"
    if not outcomes and parent.ended is not None:
        yield "its parent ended without an outcome of the step that started it"


def results_agree(found: dict[str, History], observed: Observed) -> Iterator[Violation]:
    """Whoever asked was told what is stored."""
    for result in observed.results:
        history = found.get(result.session)
        end = history.ended.event if history is not None and history.ended is not None else None
        if not isinstance(end, SessionEnded) or (end.status, end.output, end.error) != (
            result.status,
            result.output,
            result.error,
        ):
            yield Violation("results", result.session, f"a client was told {result}, and the journal says {end}")


def executions_in_turn(found: dict[str, History], observed: Observed) -> Iterator[Violation]:
    """Attempt n+1 is sent once slot n holds a failure, and what is accepted as a result was returned by somebody."""
    tokens: dict[tuple[str, str, int], set[str]] = defaultdict(set)
    for execution in observed.executions:
        tokens[execution.session, execution.node, execution.attempt].add(execution.token)
        history = found.get(execution.session)
        if history is None:
            yield Violation("executions", execution.session, f"{execution.node} ran for a session nobody accepted")
            continue
        if execution.attempt > 1:
            before = [kept for kept in history.outcomes[execution.node] if kept.attempt == execution.attempt - 1]
            if not before or before[0].time_ms > execution.at_ms + CLOCK_MS:
                what = f"{execution.node}.{execution.attempt} ran before attempt {execution.attempt - 1} had an outcome"
                yield Violation("executions", execution.session, what)
            elif (early_ms := _due_ms(history, before[0]) - execution.at_ms) > CLOCK_MS:
                what = f"{execution.node}.{execution.attempt} ran {early_ms:.0f} ms before it was due"
                yield Violation("executions", execution.session, what)
    for history in found.values():
        for node, outcomes in history.outcomes.items():
            for kept in outcomes:
                returned = _token(kept.event) if kept.pool != ROUTER_POOL else None
                if returned is not None and returned not in tokens[history.session, node, kept.attempt]:
                    what = f"{node}.{kept.attempt} has the result {returned}, which no execution of it returned"
                    yield Violation("executions", history.session, what)


def _due_ms(history: History, failed: Kept) -> float:
    """When the attempt after one that failed may begin, at the soonest."""
    node = None if history.accepted is None else find(history.accepted.plan, failed.node)
    return failed.time_ms + (least_delay_ms(node.retry, failed) if isinstance(node, TaskNode | PipelineNode) else 0)


def _token(event: JournalEvent) -> str | None:
    return event.outputs.get(TOKEN) if isinstance(event, StepSucceeded) else None


def cancels_are_kept(found: dict[str, History], observed: Observed) -> Iterator[Violation]:
    """After a cancel was acknowledged no result is accepted, and no task of the session delivered."""
    for session, acknowledged in observed.cancelled.items():
        history = found.get(session)
        if history is None:
            continue
        if not history.of(CancelRequested):
            yield Violation("cancels", session, "a cancel was acknowledged, and the journal does not know of it")
        for kept in history.of(StepSucceeded):
            if kept.sequence > acknowledged.sequence:
                what = f"the result of {kept.node}.{kept.attempt} was accepted after its cancel was acknowledged"
                yield Violation("cancels", session, what)
        if history.ended is None or history.ended.sequence > acknowledged.sequence:
            yield Violation("cancels", session, "its cancel was acknowledged before it had ended")
    for execution in observed.executions:
        late = observed.cancelled.get(execution.session)
        if late is not None and execution.at_ms > late.at_ms + (TOLD_MS if execution.along else CLOCK_MS):
            what = (
                f"{execution.node}.{execution.attempt} was started {execution.at_ms - late.at_ms} ms after its cancel "
            )
            yield Violation("cancels", execution.session, what + "was acknowledged")


def limits_hold(found: dict[str, History], observed: Observed) -> Iterator[Violation]:
    """Attempts under a limit hold a permit from before they begin until their outcome is stored."""
    changes: dict[str, list[tuple[int, int, Execution]]] = defaultdict(list)
    begun: dict[tuple[str, str, int], Execution] = {}
    for execution in observed.executions:
        if execution.under in observed.limits:
            place = (execution.session, execution.node, execution.attempt)
            if place not in begun or execution.at_ms < begun[place].at_ms:
                begun[place] = execution
    for (session, node, attempt), execution in begun.items():
        outcomes = found[session].outcomes.get(node, []) if session in found else []
        over = next((kept.time_ms for kept in outcomes if kept.attempt == attempt), None)
        if over is not None and over > execution.at_ms + CLOCK_MS:
            changes[execution.under] += [(execution.at_ms + CLOCK_MS, 1, execution), (over, -1, execution)]
    for name, most in observed.limits.items():
        running = 0
        for _, change, execution in sorted(changes[name], key=lambda one: one[:2]):
            running += change
            if running > most:
                what = f"{execution.node}.{execution.attempt} is one of {running} at once under {name}, of {most}"
                yield Violation("limits", execution.session, what)


def ticks_once(found: dict[str, History], observed: Observed) -> Iterator[Violation]:
    """No tick is left out between the first and the last. A router may have died before it counted the last one, and
    one that was taken for dead likewise; of those before, the next owner has counted what they did not."""
    for name, (every_s, started) in observed.schedules.items():
        sessions = sorted(session for session in found if session.startswith(f"{name}-"))
        if len(sessions) < started:
            yield Violation(
                "schedules", name, f"it has started {started} sessions, and the journal has {len(sessions)}"
            )
        if len(sessions) > started + UNCOUNTED:
            what = f"it counts {started} sessions, and the journal has {len(sessions)}"
            yield Violation("schedules", name, what)
        ticks = [datetime.strptime(session, f"{name}-%Y%m%dT%H%M%SZ") for session in sessions]
        for before, after in itertools.pairwise(ticks):
            if (after - before).total_seconds() != every_s:
                yield Violation("schedules", name, f"there is no tick between {before:%H:%M:%S} and {after:%H:%M:%S}")
