"""A step that is a pipeline: a session of its own."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_bus.subjects import ROUTER_POOL
from dspex_bus.wire import (
    Origin,
    Parent,
    SessionEnded,
    StepCancelled,
    StepFailed,
    StepOutcome,
    StepSucceeded,
    StepTimedOut,
    Usage,
    Watched,
)
from dspex_router.core import Command, Finish, RecordOutcome, StartChild, TellChild, resume, view

from .building import ACCEPTED_MS, DEADLINE_MS, Fold, error, only_end, parallel, pipeline, plan, steady, task

PARENT = Parent(session="s0", partition=3, node="1", attempt=2)


def started(commands: list[Command]) -> StartChild:
    (found,) = [command for command in commands if isinstance(command, StartChild)]
    return found


def test_it_is_started_with_its_parent_s_fields_and_constants() -> None:
    node = pipeline("0", task("0"), reads={"q": "question"}, options={"k": 0, "q2": None})
    child = started(Fold(node, input={"question": "why", "other": 1}).opening).accepted
    assert child.input == {"q": "why", "k": 0, "q2": None}
    assert child.plan == plan(task("0"))
    assert child.parent == Parent(session="s1", partition=7, node="0", attempt=1)
    assert (child.deadline_ms, child.reply) == (DEADLINE_MS, "")


def test_its_tokens_are_said_under_the_session_that_no_step_started() -> None:
    child = started(Fold(pipeline("0", task("0")), stream=True).opening).accepted
    assert (child.stream, child.watched) == (True, Watched(session="s1", node="0"))
    inner = Fold(pipeline("0"), stream=True, watched=Watched(session="root", node="0-1"))
    assert started(inner.opening).accepted.watched == Watched(session="root", node="0-1-0")
    assert started(Fold(pipeline("0")).opening).accepted.watched is None


def test_it_can_have_the_whole_context() -> None:
    node = pipeline("0", reads_all=True, options={"a": 2})
    assert started(Fold(node, input={"a": 1, "b": 1}).opening).accepted.input == {"a": 2, "b": 1}


@pytest.mark.parametrize(("timeout_ms", "deadline_ms"), [(0, 9_000), (3_000, ACCEPTED_MS + 3_000), (1_000_000, 9_000)])
def test_its_deadline_is_never_later_than_its_parent_s(timeout_ms: int, deadline_ms: int) -> None:
    fold = Fold(pipeline("0", timeout_ms=timeout_ms), deadline_ms=9_000)
    assert started(fold.opening).accepted.deadline_ms == deadline_ms


def test_its_id_is_the_same_at_every_replay_and_another_for_another_attempt() -> None:
    fold = Fold(pipeline("0", retry=steady(2)))
    first = started(fold.opening).accepted
    assert first.session == "bd112c56b76867e7fbb12ecb"
    assert started(resume(fold.again())).accepted == first
    fold.fail("0", retryable=True)
    assert started(fold.retry_due("0")).accepted.session != first.session


def test_its_outcome_ends_the_step() -> None:
    fold = Fold(pipeline("0", writes={"answer": "found"}), task("1", reads_all=True))
    fold.succeed("0", {"answer": None})
    assert fold.run("0").written == {"found": None}
    assert fold.statuses()["1"] == "running"


def test_a_missing_field_fails_the_step_and_no_child_is_started() -> None:
    fold = Fold(pipeline("0", reads={"q": "absent"}))
    command = fold.opening[1]
    assert isinstance(command, RecordOutcome)
    assert isinstance(command.outcome, StepFailed)
    assert (command.pool, command.outcome.error.code) == (ROUTER_POOL, "missing_field")
    only_end(fold.proposed(fold.opening))


def test_given_up_it_is_cancelled_and_its_slot_filled() -> None:
    fold = Fold(pipeline("0"))
    id = started(fold.opening).accepted.session
    assert fold.cancel()[:2] == [
        RecordOutcome(ROUTER_POOL, "0", 1, StepCancelled(reason="cancel_requested")),
        TellChild(id, "cancel"),
    ]


def test_a_pause_is_passed_on_to_those_that_run() -> None:
    fold = Fold(
        parallel("0", pipeline("0-0"), pipeline("0-1", retry=steady(2, delay_s=100)), task("0-2"), pipeline("0-3"))
    )
    id = started(fold.opening[:2]).accepted.session
    fold.fail("0-1", retryable=True)
    fold.succeed("0-3")
    assert fold.pause() == [TellChild(id, "pause")]
    assert fold.go_on() == [TellChild(id, "resume")]


def test_whoever_takes_over_passes_it_on_again() -> None:
    """The one before may have died in between."""
    fold = Fold(parallel("0", pipeline("0-0"), task("0-1")))
    start = started(fold.opening)
    assert [command for command in resume(fold.state) if isinstance(command, TellChild)] == []
    fold.pause()
    assert resume(fold.state)[:2] == [start, TellChild(start.accepted.session, "pause")]
    fold.go_on()
    assert resume(fold.state)[:2] == [start, TellChild(start.accepted.session, "resume")]
    fold.fail("0-1")
    assert TellChild(start.accepted.session, "resume") not in resume(fold.state)


def test_one_that_would_start_in_a_pause_is_held() -> None:
    fold = Fold(task("0"), pipeline("1"))
    fold.pause()
    assert fold.succeed("0") == []
    assert started(fold.go_on()).accepted.parent == Parent(session="s1", partition=7, node="1", attempt=1)


def test_its_parent_s_view_names_it() -> None:
    fold = Fold(pipeline("0"))
    (report,) = view(fold.state).steps
    assert (report.kind, report.child) == ("pipeline", started(fold.opening).accepted.session)


# --- the child's side ---


ENDS: list[tuple[SessionEnded, StepOutcome]] = [
    (
        SessionEnded(status="succeeded", output={"a": 0}),
        StepSucceeded(outputs={"a": 0}, started_ms=ACCEPTED_MS, duration_us=2_000_000),
    ),
    (
        SessionEnded(status="succeeded", usage=Usage(calls=2)),
        StepSucceeded(outputs={}, started_ms=ACCEPTED_MS, duration_us=2_000_000, usage=Usage(calls=2)),
    ),
    (
        SessionEnded(status="failed", error=error(), usage=Usage(calls=2)),
        StepFailed(error=error(), usage=Usage(calls=2)),
    ),
    (SessionEnded(status="succeeded"), StepSucceeded(outputs={}, started_ms=ACCEPTED_MS, duration_us=2_000_000)),
    (SessionEnded(status="failed", error=error(retryable=True)), StepFailed(error=error(retryable=True))),
    (SessionEnded(status="timed_out", error=error("late")), StepTimedOut(error=error("late"))),
    (SessionEnded(status="cancelled", error=error("x")), StepCancelled(reason=error("x").message)),
]


@pytest.mark.parametrize(("ended", "outcome"), ENDS)
def test_its_end_is_reported_to_its_parent(ended: SessionEnded, outcome: Any) -> None:
    fold = Fold(task("0"), parent=PARENT)
    (command,) = fold.end(ended, at_ms=ACCEPTED_MS + 2_000)
    assert isinstance(command, Finish)
    assert (command.parent, command.report) == (PARENT, outcome)
    assert resume(fold.again()) == [command]


def test_a_session_without_a_parent_reports_to_nobody() -> None:
    fold = Fold(task("0"))
    (command,) = fold.end(SessionEnded(status="succeeded", output={}))
    assert isinstance(command, Finish)
    assert (command.parent, command.report) == (None, None)


def test_the_first_attempt_of_a_retry_goes_on_from_the_child_before_it() -> None:
    fold = Fold(pipeline("0", retry=steady(2)), children={"0": "before", "1": "elsewhere"})
    assert started(fold.opening).accepted.origin == Origin(session="before")
    fold.fail("0", retryable=True)
    assert started(fold.retry_due("0")).accepted.origin is None
    assert started(Fold(pipeline("0")).opening).accepted.origin is None
