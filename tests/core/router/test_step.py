"""One step: its attempts, how each outcome ends it or not, and its being given up or held."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_bus.subjects import ROUTER_POOL
from dspex_bus.wire import StepCancelled, StepSucceeded, Task
from dspex_router.core import (
    DeadlinePassed,
    Dispatch,
    RecordOutcome,
    RetryDue,
    SetTimer,
    StepDue,
    TellCancelled,
    is_over,
    resume,
)

from .building import (
    ACCEPTED_MS,
    DEADLINE_MS,
    POOL,
    Fold,
    only_end,
    parallel,
    sequence,
    sleep,
    snapshot,
    steady,
    task,
    wait,
)


def sent(commands: list[Any]) -> Task:
    """The attempt that is sent; besides it only the deadline's timer may be set."""
    (found,) = [command for command in commands if isinstance(command, Dispatch)]
    return found.task


WRITES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"a": 0, "b": None}),
    ({"writes": {"a": "x"}}, {"x": 0, "b": None}),
    ({"writes": {"a": "b", "b": "a"}}, {"b": 0, "a": None}),
    ({"save_as": "all"}, {"all": {"a": 0, "b": None}}),
]


@pytest.mark.parametrize(("how", "written"), WRITES)
def test_what_a_success_writes(how: dict[str, Any], written: dict[str, Any]) -> None:
    fold = Fold(task("0", **how), task("1", reads_all=True))
    commands = fold.succeed("0", {"a": 0, "b": None})
    assert sent(commands).inputs == written
    assert fold.run("0").written == written


def test_a_failure_that_is_retried_waits() -> None:
    fold = Fold(task("0", retry=steady(2, delay_s=3)))
    commands = fold.fail("0", retryable=True, at_ms=5_000)
    assert commands == [SetTimer(8_000, RetryDue(time_ms=8_000, node="0", attempt=2))]
    run = fold.run("0")
    assert (run.status, run.attempt, run.due_ms) == ("waiting", 2, 8_000)
    task_sent = sent(fold.retry_due("0"))
    assert task_sent.attempt == 2
    assert (run.status, run.started_ms) == ("running", 8_000)


def test_attempts_end() -> None:
    fold = Fold(task("0", retry=steady(3)))
    for attempt in (1, 2):
        fold.fail("0", "busy", retryable=True)
        assert sent(fold.retry_due("0")).attempt == attempt + 1
    end = only_end(fold.fail("0", "broken", retryable=True))
    assert end.status == "failed"
    assert end.error is not None
    assert end.error.details == {"step": "step 0", "node": "0"}
    assert end.error.code == "broken"
    assert fold.run("0").status == "failed"


def test_without_delay_the_next_attempt_is_sent_at_once() -> None:
    fold = Fold(task("0", retry=steady(2, delay_s=0)))
    assert sent(fold.fail("0", retryable=True)).attempt == 2
    assert fold.run("0").status == "running"


def test_a_success_after_a_failure_is_a_success() -> None:
    fold = Fold(task("0", retry=steady(2)))
    fold.fail("0", retryable=True)
    fold.retry_due("0")
    assert only_end(fold.succeed("0", {"a": 1})).output == {"a": 1}
    assert fold.run("0").error is None


def test_a_callee_s_wish_is_kept_to() -> None:
    fold = Fold(task("0", retry=steady(2, delay_s=1)))
    fold.fail("0", retryable=True, retry_after_ms=90_000, at_ms=2_000)
    assert fold.run("0").due_ms == 92_000


@pytest.mark.parametrize(("deadline_ms", "retried"), [(7_000, False), (7_001, True)])
def test_an_attempt_that_could_only_start_at_the_deadline_is_not_waited_for(deadline_ms: int, retried: bool) -> None:
    fold = Fold(task("0", retry=steady(2, delay_s=2)), deadline_ms=deadline_ms)
    commands = fold.fail("0", "busy", retryable=True, at_ms=5_000)
    assert fold.run("0").open is retried
    if not retried:
        end = only_end(commands)
        assert end.error is not None
        assert (end.status, end.error.code) == ("failed", "busy")


def test_a_timeout_is_retried_like_a_failure() -> None:
    fold = Fold(task("0", retry=steady(2)))
    fold.time_out("0", retryable=True)
    fold.retry_due("0")
    end = only_end(fold.time_out("0", retryable=True))
    assert (end.status, fold.run("0").status) == ("failed", "timed_out")


def test_a_lost_attempt_is_the_last() -> None:
    fold = Fold(task("0", retry=steady(3)))
    end = only_end(fold.lose("0"))
    assert end.error is not None
    assert (end.status, end.error.code, fold.run("0").status) == ("failed", "worker_lost", "lost")


def test_an_attempt_that_somebody_cancelled() -> None:
    fold = Fold(task("0", retry=steady(3)))
    end = only_end(fold.abandoned("0", ""))
    assert end.error is not None
    assert (end.status, end.error.code, fold.run("0").status) == ("cancelled", "cancelled", "cancelled")
    assert "no reason given" in end.error.message


def test_an_outcome_counts_while_its_attempt_waits() -> None:
    """Another owner's timer was faster."""
    fold = Fold(task("0", retry=steady(2)))
    fold.fail("0", retryable=True)
    assert fold.run("0").status == "waiting"
    assert only_end(fold.succeed("0", {"a": 1})).output == {"a": 1}


STALE: list[dict[str, Any]] = [{"attempt": 1}, {"attempt": 3}, {"pool": "other"}]


@pytest.mark.parametrize("wrong", STALE)
def test_outcomes_that_are_not_the_current_attempt_s_do_not_count(wrong: dict[str, Any]) -> None:
    fold = Fold(task("0", retry=steady(3)))
    fold.fail("0", retryable=True)
    fold.retry_due("0")
    assert fold.succeed("0", **wrong) == []
    assert (fold.run("0").status, fold.state.ignored) == ("running", 1)


def test_the_outcome_of_a_step_that_has_ended_does_not_count() -> None:
    fold = Fold(task("0"), task("1"))
    fold.succeed("0", {"a": 1})
    assert fold.feed(fold.journal[-1]) == []
    assert fold.fail("0", attempt=1) == []
    assert fold.state.ignored == 2
    assert isinstance(fold.run("0").outcome, StepSucceeded)


@pytest.mark.parametrize("node", ["nowhere", "1"])
def test_an_outcome_of_a_node_that_has_not_started_does_not_count(node: str) -> None:
    fold = Fold(task("0"), task("1"))
    assert fold.outcome(node, StepSucceeded(outputs={}), attempt=1) == []
    assert fold.state.ignored == 1


def test_old_timers_change_nothing() -> None:
    fold = Fold(task("0", retry=steady(4)))
    fold.fail("0", retryable=True)
    assert fold.retry_due("0", attempt=1) == []
    fold.retry_due("0")
    assert fold.retry_due("0") == []
    assert fold.feed(RetryDue(time_ms=fold.now_ms, node="nowhere", attempt=1)) == []
    assert (fold.run("0").attempt, fold.state.ignored) == (2, 3)


def test_times_are_those_of_the_events() -> None:
    fold = Fold(task("0"))
    assert fold.run("0").started_ms == ACCEPTED_MS
    fold.succeed("0", at_ms=4_000)
    assert fold.run("0").ended_ms == 4_000


def test_abandoned_while_it_runs_its_slot_decides() -> None:
    fold = Fold(task("0", retry=steady(3)))
    commands = fold.cancel("enough")
    assert commands[0] == RecordOutcome(POOL, "0", 1, StepCancelled(reason="cancel_requested"))
    assert fold.run("0").open
    fold.fail("0", retryable=True)
    assert fold.run("0").status == "failed"


def test_abandoned_while_it_waits_it_ends_at_once() -> None:
    fold = Fold(task("0", retry=steady(3, delay_s=10)))
    fold.fail("0", retryable=True, at_ms=2_000)
    end = only_end(fold.cancel(at_ms=11_999))
    assert (end.status, fold.run("0").status) == ("cancelled", "cancelled")


def test_abandoned_when_its_retry_is_due_it_counts_as_sent() -> None:
    """Whether or not the timer has come: some owner may have sent it."""
    fold = Fold(task("0", retry=steady(3, delay_s=10)))
    fold.fail("0", retryable=True, at_ms=2_000)
    commands = fold.cancel(at_ms=12_000)
    assert commands[0] == RecordOutcome(POOL, "0", 2, StepCancelled(reason="cancel_requested"))
    assert fold.run("0").status == "running"


# --- kept from another session ---


def test_a_step_whose_outputs_are_kept_does_not_run() -> None:
    fold = Fold(task("0", writes={"a": "x"}), task("1", reads_all=True), kept={"0": {"a": 0}})
    assert sent(fold.opening).inputs == {"x": 0}
    assert fold.statuses() == {"0": "succeeded", "1": "running"}


def test_a_run_that_keeps_everything_ends_as_it_starts() -> None:
    fold = Fold(task("0"), sequence("1", task("1-0")), kept={"0": {"a": 1}, "1-0": {"b": 2}})
    assert fold.opening[0] == SetTimer(DEADLINE_MS, DeadlinePassed(time_ms=DEADLINE_MS))
    assert only_end(fold.opening[1:]).output == {"b": 2}


def test_even_where_a_branch_ends_as_it_starts() -> None:
    fold = Fold(parallel("0", task("0-0"), task("0-1")), task("1"), kept={"0-0": {"a": 1}})
    assert sent(fold.opening).node == "0-1"
    assert sent(fold.succeed("0-1", {"b": 1})).node == "1"


# --- sleep ---


def test_a_sleep_ends_when_its_time_is_recorded() -> None:
    fold = Fold(sleep("0", 3_000), task("1", reads_all=True))
    due_ms = ACCEPTED_MS + 3_000
    assert fold.opening[1] == SetTimer(due_ms, StepDue(time_ms=due_ms, node="0"))
    commands = fold.due("0")
    assert commands == [
        RecordOutcome(ROUTER_POOL, "0", 1, StepSucceeded(outputs={}, started_ms=ACCEPTED_MS, duration_us=3_000_000))
    ]
    assert fold.run("0").open
    assert sent(fold.proposed(commands)).inputs == {}


def test_old_timers_of_sleeps_change_nothing() -> None:
    fold = Fold(sleep("0"), task("1"))
    fold.succeed("0")
    assert fold.due("0") == []
    assert fold.feed(StepDue(time_ms=5_000, node="nowhere")) == []
    assert fold.feed(StepDue(time_ms=5_000, node="1")) == []
    assert fold.state.ignored == 3


def test_a_sleep_that_is_given_up_does_not_end_by_its_time() -> None:
    fold = Fold(sleep("0"))
    assert fold.cancel() == [
        RecordOutcome(ROUTER_POOL, "0", 1, StepCancelled(reason="cancel_requested")),
        TellCancelled(),
    ]
    assert fold.due("0") == []
    assert only_end(fold.abandoned("0", "cancel_requested")).status == "cancelled"


def test_a_sleep_is_not_tried_again() -> None:
    fold = Fold(sleep("0"))
    assert only_end(fold.fail("0", retryable=True)).status == "failed"


# --- wait ---


def test_a_wait_without_a_limit_sets_no_timer() -> None:
    fold = Fold(wait("0"))
    assert fold.opening == [SetTimer(DEADLINE_MS, DeadlinePassed(time_ms=DEADLINE_MS))]


def test_a_wait_ends_by_its_signal() -> None:
    fold = Fold(wait("0", writes={"by": "approved_by"}), task("1", reads_all=True))
    commands = fold.signal("go", payload={"by": "Ada", "note": None}, at_ms=5_000)
    outcome = StepSucceeded(outputs={"by": "Ada", "note": None}, started_ms=ACCEPTED_MS, duration_us=4_000_000)
    assert commands == [RecordOutcome(ROUTER_POOL, "0", 1, outcome)]
    assert sent(fold.proposed(commands)).inputs == {"approved_by": "Ada", "note": None}


def test_a_wait_that_nobody_signals_times_out() -> None:
    fold = Fold(wait("0", timeout_ms=2_000))
    assert fold.opening[1] == SetTimer(ACCEPTED_MS + 2_000, StepDue(time_ms=ACCEPTED_MS + 2_000, node="0"))
    end = only_end(fold.proposed(fold.due("0")))
    assert end.error is not None
    assert (end.status, end.error.code, end.error.details["signal"]) == ("failed", "wait_timed_out", "go")
    assert fold.run("0").status == "timed_out"


@pytest.mark.parametrize("default", [{"approved": False}, {}])
def test_a_wait_s_default(default: dict[str, Any]) -> None:
    fold = Fold(wait("0", timeout_ms=2_000, default=default, save_as="answer"))
    assert only_end(fold.proposed(fold.due("0"))).output == {"answer": default}


def test_once_it_has_its_signal_its_time_does_not_matter() -> None:
    fold = Fold(wait("0", timeout_ms=2_000))
    fold.signal()
    assert fold.due("0") == []
    assert fold.state.ignored == 1


def test_a_time_that_was_recorded_first_counts_and_the_signal_is_kept() -> None:
    fold = Fold(wait("0", timeout_ms=2_000, default={"late": True}), wait("1"))
    timed_out = fold.due("0")
    fold.signal(payload={"late": False})
    commands = fold.proposed(timed_out)
    assert fold.run("0").written == {"late": True}
    assert commands == []


# --- paused ---


def test_paused_it_starts_nothing_and_what_runs_goes_on() -> None:
    fold = Fold(task("0"), task("1"))
    assert fold.pause() == []
    assert fold.succeed("0") == []
    assert (fold.run("1").status, fold.run("1").held) == ("running", True)
    assert sent(fold.go_on()).node == "1"
    assert not fold.run("1").held


def test_a_retry_that_falls_due_in_a_pause_is_held() -> None:
    fold = Fold(task("0", retry=steady(2)))
    fold.fail("0", retryable=True)
    fold.pause()
    assert fold.retry_due("0") == []
    assert sent(fold.go_on()).attempt == 2


def test_a_retry_that_was_due_before_the_pause_is_not() -> None:
    """An owner whose timer was on time has sent it."""
    fold = Fold(task("0", retry=steady(2, delay_s=1)))
    fold.fail("0", retryable=True, at_ms=2_000)
    fold.pause(at_ms=3_001)
    assert sent(fold.retry_due("0")).attempt == 2


def test_a_retry_without_delay_is_held_too() -> None:
    fold = Fold(task("0", retry=steady(2, delay_s=0)))
    fold.pause()
    assert fold.fail("0", retryable=True) == []
    assert sent(fold.go_on()).attempt == 2


def test_a_pause_does_not_stop_sleeps_and_waits() -> None:
    fold = Fold(parallel("0", sleep("0-0"), wait("0-1")), task("1"))
    fold.pause()
    fold.proposed(fold.due("0-0"))
    assert fold.proposed(fold.signal()) == []
    assert sent(fold.go_on()).node == "1"


@pytest.mark.parametrize("fires", [True, False])
def test_what_is_held_is_given_up_at_once(fires: bool) -> None:
    """Whether or not the timer of its retry has come."""
    fold = Fold(task("0", retry=steady(2)))
    fold.fail("0", retryable=True, at_ms=2_000)
    fold.pause(at_ms=2_500)
    if fires:
        fold.retry_due("0")
    assert only_end(fold.cancel(at_ms=5_000)).status == "cancelled"


def test_what_runs_in_a_pause_is_given_up_by_its_slot() -> None:
    fold = Fold(task("0"))
    fold.pause()
    assert fold.cancel()[0] == RecordOutcome(POOL, "0", 1, StepCancelled(reason="cancel_requested"))


def test_paused_or_resumed_twice_it_is_once() -> None:
    fold = Fold(task("0"))
    assert fold.go_on() == []
    fold.pause()
    assert fold.pause() == []
    assert (fold.state.paused, fold.state.ignored, fold.state.controls) == (True, 2, 3)


def test_a_restart_in_a_pause_sends_again_only_what_was_sent() -> None:
    fold = Fold(parallel("0", task("0-0"), sequence("0-1", task("0-1-0"), task("0-1-1"))))
    fold.pause()
    fold.succeed("0-1-0")
    state = fold.again()
    assert [command.task.node for command in resume(state) if isinstance(command, Dispatch)] == ["0-0"]
    assert snapshot(state) == snapshot(fold.state)


def test_which_attempts_are_over() -> None:
    fold = Fold(task("0", retry=steady(2)), sleep("1"))

    def over() -> list[bool]:
        return [is_over(fold.state, "0", attempt) for attempt in (1, 2)]

    assert over() == [False, False]
    fold.fail("0", retryable=True)
    assert over() == [True, False]
    fold.retry_due("0")
    assert over() == [True, False]
    fold.succeed("0", attempt=2)
    assert over() == [True, True]
    assert not is_over(fold.state, "nothing", 1)
