"""The session's machine: what it hears in which phase, how it closes and ends, and what is still open at a restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dspex_bus.subjects import ROUTER_POOL
from dspex_bus.wire import (
    CancelRequested,
    SessionEnded,
    SessionPaused,
    SessionResumed,
    SignalReceived,
    StepCancelled,
    StepFailed,
    StepLost,
    StepSucceeded,
    StepTimedOut,
)
from dspex_router.core import (
    Command,
    DeadlinePassed,
    Dispatch,
    Finish,
    Recorded,
    RecordEnd,
    RecordOutcome,
    RetryDue,
    SetTimer,
    StepDue,
    TellCancelled,
    decide,
    resume,
)
from dspex_router.core.session import HEARS
from dspex_router.core.state import Phase
from dspex_router.errors import BrokenJournal

from .building import (
    ACCEPTED_MS,
    DEADLINE_MS,
    POOL,
    Fold,
    accepted,
    error,
    only_end,
    parallel,
    sequence,
    snapshot,
    steady,
    task,
    wait,
)


def running() -> Fold:
    """One branch runs, one waits for its retry, one for a signal."""
    waits = wait("0-2", timeout_ms=50_000)
    fold = Fold(parallel("0", task("0-0"), task("0-1", retry=steady(3, delay_s=100)), waits), task("1"))
    fold.fail("0-1", retryable=True)
    return fold


def closing() -> Fold:
    fold = running()
    fold.cancel("enough")
    return fold


def ending() -> Fold:
    fold = closing()
    for node in ("0-0", "0-2"):
        fold.abandoned(node, "cancel_requested")
    return fold


def ended() -> Fold:
    fold = ending()
    fold.end()
    return fold


PHASES: dict[Phase, Callable[[], Fold]] = {"running": running, "closing": closing, "ending": ending, "ended": ended}

EVENTS: dict[type, Callable[[Fold], list[Command]]] = {
    StepSucceeded: lambda fold: fold.succeed("0-0", {"a": 1}),
    StepFailed: lambda fold: fold.fail("0-0"),
    StepTimedOut: lambda fold: fold.time_out("0-0"),
    StepLost: lambda fold: fold.lose("0-0"),
    StepCancelled: lambda fold: fold.abandoned("0-0", "by hand"),
    CancelRequested: lambda fold: fold.cancel("again"),
    SessionPaused: lambda fold: fold.pause(),
    SessionResumed: lambda fold: fold.go_on(),
    SignalReceived: lambda fold: fold.signal("go"),
    StepDue: lambda fold: fold.due("0-2"),
    RetryDue: lambda fold: fold.retry_due("0-1"),
    DeadlinePassed: lambda fold: fold.deadline(),
    SessionEnded: lambda fold: fold.end(SessionEnded(status="failed", error=error("other_owner"))),
}


def test_the_table_is_whole() -> None:
    assert list(HEARS) == list(PHASES)
    assert {event for heard in HEARS.values() for event in heard} == set(EVENTS)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_hears(phase: Phase, event: type) -> None:
    fold = PHASES[phase]()
    if event is SessionResumed:
        fold.pause()
    assert fold.state.phase == phase
    ignored, without = fold.state.ignored, ("ignored", "sequence", "length", "now_ms", "controls")
    before = snapshot(fold.state, without=without)
    commands = EVENTS[event](fold)
    after = snapshot(fold.state, without=without)
    if event in HEARS[phase]:
        assert commands or after != before
        assert fold.state.ignored == ignored
    else:
        assert (commands, after, fold.state.ignored) == ([], before, ignored + 1)


# --- accepted ---


def test_accepted_starts_the_first_step_and_the_deadline() -> None:
    fold = Fold(task("0"), task("1"))
    assert fold.opening[0] == SetTimer(DEADLINE_MS, DeadlinePassed(time_ms=DEADLINE_MS))
    assert isinstance(fold.opening[1], Dispatch)
    assert len(fold.opening) == 2
    state = fold.state
    assert (state.id, state.partition, state.accepted_ms, state.sequence) == ("s1", 7, ACCEPTED_MS, 10)


@pytest.mark.parametrize("late_ms", [0, 1])
def test_accepted_at_its_deadline_it_starts_nothing(late_ms: int) -> None:
    fold = Fold(task("0"), deadline_ms=ACCEPTED_MS - late_ms)
    end = only_end(fold.opening)
    assert end.status == "timed_out"
    assert resume(fold.state) == [RecordEnd(end)]
    assert isinstance(fold.end()[0], Finish)


def test_accepted_again_it_is_a_duplicate() -> None:
    fold = Fold(task("0"))
    before = snapshot(fold.state, without=("ignored",))
    assert fold.feed(fold.first) == []
    assert (snapshot(fold.state, without=("ignored",)), fold.state.ignored) == (before, 1)


def test_accepted_differently_it_is_broken() -> None:
    fold = Fold(task("0"))
    with pytest.raises(BrokenJournal, match="accepted twice"):
        decide(fold.state, Recorded(sequence=20, time_ms=1, event=accepted(task("0"), input={"a": 1})))


@pytest.mark.parametrize(
    "event",
    [
        Recorded(sequence=1, time_ms=1, event=StepSucceeded(outputs={}), pool=POOL, node="0", attempt=1),
        Recorded(sequence=1, time_ms=1, event=SessionEnded(status="failed", error=error())),
        RetryDue(time_ms=1, node="0", attempt=1),
        DeadlinePassed(time_ms=1),
    ],
    ids=lambda event: type(event).__name__,
)
def test_nothing_comes_before_accepted(event: Any) -> None:
    with pytest.raises(BrokenJournal, match="before the session was accepted"):
        decide(None, event)


def test_time_never_goes_back() -> None:
    fold = Fold(task("0"), task("1"))
    fold.succeed("0", at_ms=9_000)
    fold.now_ms = 0
    fold.succeed("1", at_ms=5_000)
    assert fold.state.now_ms == 9_000


# --- cancelled ---


def test_a_cancelled_run_gives_up_its_attempts_and_ends_when_their_slots_are_filled() -> None:
    fold = Fold(parallel("0", task("0-0"), task("0-1")), task("1"))
    assert fold.cancel("enough") == [
        RecordOutcome(POOL, "0-0", 1, StepCancelled(reason="cancel_requested")),
        RecordOutcome(POOL, "0-1", 1, StepCancelled(reason="cancel_requested")),
        TellCancelled(),
    ]
    assert (fold.state.cancel_requested, fold.state.cancel_reason) == (True, "enough")
    assert fold.succeed("0-1", {"a": 1}) == []
    assert only_end(fold.abandoned("0-0", "cancel_requested")).status == "cancelled"


def test_a_run_that_only_waits_is_cancelled_at_once() -> None:
    fold = Fold(task("0", retry=steady(2, delay_s=100)))
    fold.fail("0", retryable=True)
    assert only_end(fold.cancel()).status == "cancelled"


def test_a_cancel_that_comes_with_the_root_s_end_is_too_late() -> None:
    fold = Fold(task("0"))
    fold.succeed("0", {"a": 1})
    assert fold.cancel() == []
    assert fold.state.proposed == SessionEnded(status="succeeded", output={"a": 1})


# --- the deadline ---


def test_the_deadline_gives_up_like_a_cancel() -> None:
    fold = Fold(task("0"))
    assert fold.deadline() == [RecordOutcome(POOL, "0", 1, StepCancelled(reason="deadline_passed")), TellCancelled()]
    assert only_end(fold.abandoned("0", "deadline_passed")).status == "timed_out"


def test_an_outcome_stored_past_the_deadline_says_that_it_has_passed() -> None:
    fold = Fold(parallel("0", task("0-0"), task("0-1")), task("1"), deadline_ms=5_000)
    commands = fold.succeed("0-0", {"a": 1}, at_ms=5_000)
    assert commands == [RecordOutcome(POOL, "0-1", 1, StepCancelled(reason="deadline_passed")), TellCancelled()]
    assert only_end(fold.succeed("0-1")).status == "timed_out"
    assert fold.statuses()["0-0"] == "succeeded"


def test_even_if_it_was_the_last() -> None:
    fold = Fold(task("0"), deadline_ms=5_000)
    assert only_end(fold.succeed("0", {"a": 1}, at_ms=5_000)).status == "timed_out"


def test_in_a_sequence_it_starts_nothing_more() -> None:
    fold = Fold(sequence("0", task("0-0"), task("0-1")), task("1"), deadline_ms=5_000)
    assert only_end(fold.succeed("0-0", at_ms=6_000)).status == "timed_out"
    assert set(fold.state.runs) == {"0", "0-0"}


def test_a_retry_is_not_waited_for_past_the_deadline() -> None:
    fold = Fold(task("0", retry=steady(3)), deadline_ms=5_000)
    assert only_end(fold.fail("0", retryable=True, at_ms=5_000)).status == "timed_out"


def test_a_fold_that_finds_a_slot_given_up_for_the_deadline_knows_that_it_has_passed() -> None:
    """By another owner, whose clock was ahead of the server's."""
    fold = Fold(parallel("0", task("0-0"), task("0-1")), deadline_ms=5_000)
    commands = fold.abandoned("0-0", "deadline_passed", at_ms=4_990)
    assert commands == [RecordOutcome(POOL, "0-1", 1, StepCancelled(reason="deadline_passed")), TellCancelled()]
    assert fold.state.closing == "timed_out"


def test_cancelled_first_it_ends_as_cancelled_even_past_the_deadline() -> None:
    fold = Fold(task("0"), deadline_ms=5_000)
    fold.cancel()
    assert fold.deadline() == []
    assert only_end(fold.abandoned("0", "cancel_requested", at_ms=6_000)).status == "cancelled"


# --- the end ---


@pytest.mark.parametrize("phase", ["running", "closing", "ending"])
def test_the_end_that_is_stored_counts_whoever_proposed_it(phase: Phase) -> None:
    fold = PHASES[phase]()
    other = SessionEnded(status="succeeded", output={"by": "another owner"})
    (command,) = fold.end(other, at_ms=50_000)
    assert isinstance(command, Finish)
    assert command.result.output == {"by": "another owner"}
    assert (fold.state.phase, fold.state.ended, fold.state.ended_ms) == ("ended", other, 50_000)


def test_nothing_counts_after_the_end() -> None:
    fold = running()
    end = SessionEnded(status="failed", error=error())
    fold.end(end)
    before = snapshot(fold.state, without=("ignored", "sequence", "length"))
    assert fold.succeed("0-0") == fold.cancel() == fold.deadline() == fold.end(end) == []
    assert (snapshot(fold.state, without=("ignored", "sequence", "length")), fold.state.ignored) == (before, 4)
    assert fold.state.sequence == fold.journal[-1].sequence


# --- a restart ---


def test_what_is_open_in_a_running_session() -> None:
    fold = running()
    due = fold.run("0-1").due_ms
    assert resume(fold.again()) == [
        fold.opening[1],
        SetTimer(due, RetryDue(time_ms=due, node="0-1", attempt=2)),
        SetTimer(ACCEPTED_MS + 50_000, StepDue(time_ms=ACCEPTED_MS + 50_000, node="0-2")),
        SetTimer(DEADLINE_MS, DeadlinePassed(time_ms=DEADLINE_MS)),
    ]


def test_what_is_open_in_a_session_that_closes() -> None:
    assert resume(closing().again()) == [
        RecordOutcome(POOL, "0-0", 1, StepCancelled(reason="cancel_requested")),
        RecordOutcome(ROUTER_POOL, "0-2", 1, StepCancelled(reason="cancel_requested")),
        TellCancelled(),
    ]


def test_what_is_open_in_a_session_that_ends() -> None:
    fold = ending()
    assert fold.state.proposed is not None
    assert resume(fold.again()) == [RecordEnd(fold.state.proposed)]


def test_what_is_open_in_a_session_that_has_ended() -> None:
    fold = ended()
    (command,) = resume(fold.again())
    assert isinstance(command, Finish)
    assert command.result.status == "cancelled"


def test_what_is_open_where_a_field_is_missing() -> None:
    fold = Fold(task("0", reads={"q": "q"}))
    assert resume(fold.again())[0] == fold.opening[1]


def test_resume_changes_nothing() -> None:
    fold = running()
    before = snapshot(fold.state)
    assert resume(fold.state) == resume(fold.state)
    assert snapshot(fold.state) == before


@pytest.mark.parametrize("phase", PHASES)
def test_a_replay_gives_the_same_session(phase: Phase) -> None:
    fold = PHASES[phase]()
    assert snapshot(fold.again()) == snapshot(fold.state)


@pytest.mark.parametrize("ask", [Fold.cancel, Fold.pause, Fold.signal])
def test_what_is_asked_at_the_deadline_only_tells_that_it_has_passed(ask: Any) -> None:
    fold = Fold(task("0"), deadline_ms=9_000)
    ask(fold, at_ms=9_000)
    assert (fold.state.phase, fold.state.closing) == ("closing", "timed_out")
    assert (fold.state.cancel_requested, fold.state.paused, fold.state.signals) == (False, False, [])
