"""Signals and the waits that take them."""

from __future__ import annotations

from typing import Any

from dspex_bus.wire import StepCancelled, StepSucceeded
from dspex_router.core import Command, RecordOutcome, view

from .building import Fold, error, parallel, sequence, task, wait


def taken(commands: list[Command]) -> dict[str, Any]:
    """What the waits that get a signal are to succeed with."""
    return {
        command.node: command.outcome.outputs
        for command in commands
        if isinstance(command, RecordOutcome) and isinstance(command.outcome, StepSucceeded)
    }


def test_a_signal_is_kept_until_a_wait_comes() -> None:
    fold = Fold(task("0"), wait("1"))
    assert fold.signal(payload={"n": 0}) == []
    assert taken(fold.succeed("0")) == {"1": {"n": 0}}


def test_the_oldest_of_a_name_is_taken_first() -> None:
    fold = Fold(task("0"), wait("1"), wait("2"), wait("3", "other"))
    for place, name in enumerate(("go", "other", "go")):
        fold.signal(name, str(place), {"n": place})
    first = fold.succeed("0")
    assert taken(first) == {"1": {"n": 0}}
    second = fold.proposed(first)
    assert taken(second) == {"2": {"n": 2}}
    assert taken(fold.proposed(second)) == {"3": {"n": 1}}
    assert fold.state.signals == []


def test_a_signal_of_another_name_is_not_taken() -> None:
    fold = Fold(wait("0"))
    assert fold.signal("stop") == []
    assert view(fold.state).waiting_for == ("go",)


def test_the_wait_that_was_there_first_gets_it() -> None:
    fold = Fold(parallel("0", sequence("0-0", task("0-0-0"), wait("0-0-1")), wait("0-1")))
    fold.succeed("0-0-0")
    assert taken(fold.signal(id="1", payload={"n": 1})) == {"0-1": {"n": 1}}
    assert taken(fold.signal(id="2", payload={"n": 2})) == {"0-0-1": {"n": 2}}
    assert fold.signal(id="3") == []
    assert len(fold.state.signals) == 1


def test_one_that_is_given_up_gets_none() -> None:
    fold = Fold(parallel("0", wait("0-0"), task("0-1"), on_error="fail"), wait("1"))
    fold.fail("0-1")
    assert fold.run("0-0").abandoned
    assert fold.signal() == []


def test_a_wait_that_ends_without_it_gives_its_signal_back() -> None:
    """It was abandoned when its signal had come already, and that was recorded first."""
    inner = parallel("0-0", wait("0-0-0"), task("0-0-1"))
    fold = Fold(parallel("0", inner, task("0-1"), kind="best_effort"), wait("1"))
    assert taken(fold.signal(payload={"n": 1})) == {"0-0-0": {"n": 1}}
    commands = fold.fail("0-0-1")
    assert RecordOutcome("router", "0-0-0", 1, StepCancelled(reason="sibling_failed")) in commands
    fold.abandoned("0-0-0", "sibling_failed")
    assert taken(fold.succeed("0-1")) == {"1": {"n": 1}}


def test_given_back_it_is_the_oldest_again() -> None:
    fold = Fold(parallel("0", wait("0-0"), kind="best_effort"), wait("1"))
    fold.signal(id="1", payload={"n": 1})
    fold.signal(id="2", payload={"n": 2})
    commands = fold.time_out("0-0")
    assert taken(commands) == {"1": {"n": 1}}


def test_a_failure_in_the_slot_of_a_wait_counts() -> None:
    fold = Fold(wait("0"))
    assert fold.run("0").open
    fold.fail("0")
    assert fold.statuses() == {"0": "failed"}
    assert fold.run("0").error is not None
    assert fold.run("0").error.code == error().code  # type: ignore[union-attr]


def test_what_a_session_waits_for() -> None:
    fold = Fold(parallel("0", wait("0-0", "b"), wait("0-1", "a"), wait("0-2", "b"), task("0-3")))
    assert view(fold.state).waiting_for == ("b", "a")
    fold.signal("b", "1")
    assert view(fold.state).waiting_for == ("a", "b")
    fold.signal("b", "2")
    assert view(fold.state).waiting_for == ("a",)
    fold.proposed(fold.signal("a", "1"))
    assert view(fold.state).waiting_for == ()
