"""When a session is idle, and when it has to be back."""

from __future__ import annotations

import gc

import pytest

from dspex_bus.wire import Node, Parent
from dspex_router.core import StartChild, TellChild, children, let_go, unwanted, wakes_at

from .building import ACCEPTED_MS, DEADLINE_MS, Fold, mapped, parallel, pipeline, sequence, sleep, steady, task, wait


@pytest.mark.parametrize(
    ("steps", "wakes_ms"),
    [
        ([task("0")], None),
        ([pipeline("0")], DEADLINE_MS),
        ([parallel("0", pipeline("0-0"), wait("0-1", timeout_ms=400))], ACCEPTED_MS + 400),
        ([parallel("0", pipeline("0-0"), task("0-1"))], None),
        ([wait("0")], DEADLINE_MS),
        ([wait("0", timeout_ms=500)], ACCEPTED_MS + 500),
        ([sleep("0", 700)], ACCEPTED_MS + 700),
        ([parallel("0", sleep("0-0", 900), sequence("0-1", wait("0-1-0", timeout_ms=800)))], ACCEPTED_MS + 800),
        ([parallel("0", wait("0-0"), task("0-1"))], None),
        ([parallel("0", wait("0-0"), timeout_ms=300)], ACCEPTED_MS + 300),
        ([mapped("0", wait("0-n-0"), timeout_ms=200)], ACCEPTED_MS + 200),
    ],
)
def test_it_is_idle_while_only_time_and_signals_are_waited_for(steps: list[Node], wakes_ms: int | None) -> None:
    assert wakes_at(Fold(*steps, input={"items": [1]}).state) == wakes_ms


def test_what_has_ended_keeps_nobody_awake() -> None:
    fold = Fold(task("0"), wait("1"))
    fold.succeed("0")
    assert wakes_at(fold.state) == DEADLINE_MS


def test_a_delay_before_a_retry_is_a_wait() -> None:
    fold = Fold(task("0", retry=steady(2, delay_s=5)))
    fold.fail("0", retryable=True)
    assert wakes_at(fold.state) == fold.now_ms + 5_000


def test_a_signal_that_a_wait_has_taken_is_to_be_recorded() -> None:
    fold = Fold(wait("0"))
    fold.signal("go")
    assert wakes_at(fold.state) is None


def test_what_a_pause_holds_is_not_running() -> None:
    fold = Fold(wait("0"), task("1"))
    fold.pause()
    fold.signal("go")
    fold.succeed("0")
    assert wakes_at(fold.state) == DEADLINE_MS
    fold.go_on()
    assert wakes_at(fold.state) is None


def test_a_join_that_is_settled_waits_for_its_branches_alone() -> None:
    fold = Fold(parallel("0", wait("0-0"), wait("0-1"), kind="any", timeout_ms=300))
    fold.signal("go")
    fold.succeed("0-0")
    assert wakes_at(fold.state) is None
    assert fold.state.phase == "running"


def test_a_session_that_ends_is_not_idle() -> None:
    fold = Fold(wait("0"))
    fold.cancel()
    assert wakes_at(fold.state) is None
    fold.abandoned("0", "cancel_requested")
    assert wakes_at(fold.state) is None


def test_a_child_is_idle_as_others_are() -> None:
    parent = Parent(session="above", partition=0, node="0", attempt=1)
    assert wakes_at(Fold(wait("0"), parent=parent).state) == DEADLINE_MS


def test_children_that_run_are_known() -> None:
    fold = Fold(parallel("0", pipeline("0-0"), pipeline("0-1"), task("0-2"), wait("0-3")))
    begun = [command.accepted.session for command in fold.opening if isinstance(command, StartChild)]
    assert children(fold.state) == begun
    fold.succeed("0-0")
    assert children(fold.state) == begun[1:]
    assert unwanted(fold.state) == []


def test_who_was_paused_sees_to_its_children() -> None:
    fold = Fold(pipeline("0"))
    fold.pause()
    assert wakes_at(fold.state) is None
    fold.go_on()
    assert wakes_at(fold.state) is None


def test_a_child_that_was_given_up_is_told_so_until_its_step_has_ended() -> None:
    fold = Fold(pipeline("0"))
    (begun,) = children(fold.state)
    fold.cancel()
    assert (children(fold.state), wakes_at(fold.state)) == ([], None)
    assert unwanted(fold.state) == [TellChild(begun, "cancel")]
    fold.abandoned("0", "cancel_requested")
    assert unwanted(fold.state) == []


def test_a_session_that_was_let_go_is_no_garbage() -> None:
    gc.collect()
    gc.disable()
    try:
        fold = Fold(parallel("0", sequence("0-0", wait("0-0-0")), mapped("0-1", wait("0-1-n-0"))), input={"items": [1]})
        assert wakes_at(fold.state) is not None
        let_go(fold.state)
        del fold
        assert gc.collect() == 0
    finally:
        gc.enable()
