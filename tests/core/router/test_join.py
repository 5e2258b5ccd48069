"""Branches side by side."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from dspex_bus.subjects import ROUTER_POOL
from dspex_bus.wire import StepCancelled, StepFailed, StepOutcome, StepSucceeded, StepTimedOut
from dspex_router.core import Dispatch, RecordOutcome, SetTimer, StepDue, TellCancelled, resume

from .building import ACCEPTED_MS, POOL, Fold, error, only_end, parallel, sequence, steady, task

BRANCHES = ("0-0", "0-1", "0-2")


def three(**more: Any) -> Fold:
    return Fold(parallel("0", *map(task, BRANCHES), **more), input={"in": 0})


def test_branches_start_together_on_the_context_as_it_was() -> None:
    fold = Fold(
        task("0"),
        parallel("1", task("1-0", reads_all=True), sequence("1-1", task("1-1-0", reads_all=True))),
        input={"a": 1},
    )
    commands = fold.succeed("0", {"b": 2})
    assert [(c.task.node, c.task.inputs) for c in commands if isinstance(c, Dispatch)] == [
        ("1-0", {"a": 1, "b": 2}),
        ("1-1-0", {"a": 1, "b": 2}),
    ]


@pytest.mark.parametrize("order", list(permutations(BRANCHES)))
def test_results_come_in_the_order_written_whatever_ended_first(order: tuple[str, ...]) -> None:
    fold = three(save_as="found")
    for node in order[:-1]:
        assert fold.succeed(node, {"node": node}) == []
    end = only_end(fold.succeed(order[-1], {"node": order[-1]}))
    assert end.output == {
        "found": [{"branch": f"step {node}", "status": "succeeded", "outputs": {"node": node}} for node in BRANCHES]
    }


@pytest.mark.parametrize("order", list(permutations(BRANCHES)))
def test_fields_are_merged_in_the_order_written(order: tuple[str, ...]) -> None:
    fold = three()
    for node in order:
        fold.succeed(node, {node.replace("-", "_"): None})
    assert list(fold.state.runs["0"].written) == ["0_0", "0_1", "0_2"]


def test_what_follows_reads_all_branches() -> None:
    fold = Fold(parallel("0", task("0-0"), sequence("0-1", task("0-1-0"))), task("1", reads_all=True), input={"in": 0})
    fold.succeed("0-1-0", {"b": 2})
    (command,) = fold.succeed("0-0", {"a": 1})
    assert isinstance(command, Dispatch)
    assert command.task.inputs == {"in": 0, "a": 1, "b": 2}


def test_two_writers_of_one_field_are_an_error_that_names_them() -> None:
    fold = three()
    fold.succeed("0-2", {"a": 1})
    fold.succeed("0-0", {"a": 1})
    end = only_end(fold.succeed("0-1", {"b": 1}))
    assert end.error is not None
    assert (end.status, end.error.code) == ("failed", "output_conflict")
    assert end.error.details == {
        "field": "a",
        "branches": ["step 0-0", "step 0-2"],
        "step": "parallel 0",
        "node": "0",
    }


# --- on_error: fail ---


@pytest.mark.parametrize("how", ["fail", "time_out", "lose"])
def test_the_first_failure_abandons_the_others(how: str) -> None:
    fold = three()
    fold.succeed("0-0", {"a": 1})
    assert getattr(fold, how)("0-1") == [
        RecordOutcome(POOL, "0-2", 1, StepCancelled(reason="sibling_failed")),
        TellCancelled((("0-2", 1),)),
    ]
    assert fold.statuses()["0"] == "running"
    end = only_end(fold.abandoned("0-2", "sibling_failed"))
    assert end.error is not None
    assert (end.status, end.error.details["node"]) == ("failed", "0-1")
    assert fold.statuses() == {
        "0": "failed",
        "0-0": "succeeded",
        "0-1": {"fail": "failed", "time_out": "timed_out", "lose": "lost"}[how],
        "0-2": "cancelled",
    }


def test_an_abandoned_branch_s_own_outcome_counts_where_it_was_faster() -> None:
    fold = three()
    fold.fail("0-0")
    fold.succeed("0-1", {"a": 1})
    end = only_end(fold.fail("0-2", "later"))
    assert end.error is not None
    assert end.error.code == "broken"
    assert fold.statuses()["0-1"] == "succeeded"


def test_an_abandoned_branch_is_not_tried_again() -> None:
    fold = Fold(parallel("0", task("0-0"), task("0-1", retry=steady(3))))
    fold.fail("0-0")
    only_end(fold.fail("0-1", retryable=True))


def test_a_branch_that_waits_for_its_retry_is_given_up_at_once() -> None:
    fold = Fold(
        parallel("0", task("0-0"), task("0-1", retry=steady(3, delay_s=100)), task("0-2", retry=steady(3, delay_s=100)))
    )
    fold.fail("0-1", retryable=True)
    fold.fail("0-2", retryable=True)
    end = only_end(fold.fail("0-0"))
    assert end.error is not None
    assert end.error.details["node"] == "0-0"
    assert fold.statuses() == {"0": "failed", "0-0": "failed", "0-1": "cancelled", "0-2": "cancelled"}


def test_a_nested_parallel_is_abandoned_with_all_its_branches() -> None:
    fold = Fold(parallel("0", task("0-0"), sequence("0-1", parallel("0-1-0", task("0-1-0-0"), task("0-1-0-1")))))
    commands = fold.fail("0-0")
    assert [command.node for command in commands if isinstance(command, RecordOutcome)] == ["0-1-0-0", "0-1-0-1"]
    fold.abandoned("0-1-0-0", "sibling_failed")
    only_end(fold.abandoned("0-1-0-1", "sibling_failed"))
    assert fold.statuses()["0-1-0"] == fold.statuses()["0-1"] == "cancelled"


def test_a_branch_that_failed_while_its_parallel_was_abandoned_abandons_nobody_again() -> None:
    fold = Fold(parallel("0", task("0-0"), parallel("0-1", task("0-1-0"), task("0-1-1"))))
    fold.fail("0-0")
    assert fold.fail("0-1-0") == []
    only_end(fold.abandoned("0-1-1", "sibling_failed"))


def test_a_cancelled_branch_cancels_it() -> None:
    fold = Fold(parallel("0", task("0-0")))
    assert only_end(fold.abandoned("0-0", "by hand")).status == "cancelled"
    assert fold.statuses()["0"] == "cancelled"


# --- on_error: collect ---


def test_every_branch_s_outcome_is_kept() -> None:
    fold = Fold(parallel("0", *(task(node) for node in (*BRANCHES, "0-3", "0-4")), on_error="collect", save_as="found"))
    assert fold.fail("0-3", "busy") == []
    assert fold.lose("0-1") == []
    assert fold.time_out("0-2") == []
    assert fold.abandoned("0-4", "by hand") == []
    end = only_end(fold.succeed("0-0", {"a": None}))
    assert end.output is not None
    found = end.output["found"]
    assert [(result["branch"], result["status"]) for result in found] == [
        ("step 0-0", "succeeded"),
        ("step 0-1", "lost"),
        ("step 0-2", "timed_out"),
        ("step 0-3", "failed"),
        ("step 0-4", "cancelled"),
    ]
    assert found[0]["outputs"] == {"a": None}
    assert [result["error"]["code"] for result in found[1:]] == ["worker_lost", "step_timed_out", "busy", "cancelled"]


def test_fields_of_branches_that_failed_are_missing_and_the_rest_merged() -> None:
    fold = three(on_error="collect")
    fold.fail("0-0")
    fold.succeed("0-1", {"a": 1})
    assert only_end(fold.succeed("0-2", {"b": 2})).output == {"a": 1, "b": 2}


def test_even_where_all_fail() -> None:
    fold = three(on_error="collect")
    for node in BRANCHES[:-1]:
        fold.fail(node)
    end = only_end(fold.fail("0-2"))
    assert (end.status, end.output) == ("succeeded", {})


def test_a_branch_is_retried_before_its_failure_is_collected() -> None:
    fold = Fold(parallel("0", task("0-0", retry=steady(2)), on_error="collect", save_as="found"))
    fold.fail("0-0", retryable=True)
    fold.retry_due("0-0")
    end = only_end(fold.outcome("0-0", StepFailed(error=fold.run("0-0").error)))  # type: ignore[arg-type]
    assert end.status == "succeeded"


def test_a_run_that_is_cancelled_collects_nothing() -> None:
    fold = three(on_error="collect", save_as="found")
    fold.cancel()
    for node in BRANCHES[:-1]:
        fold.abandoned(node, "cancel_requested")
    end = only_end(fold.abandoned("0-2", "cancel_requested"))
    assert end.status == "cancelled"
    assert fold.statuses()["0"] == "cancelled"


# --- any, quorum, best effort ---


def given_up(commands: list[Any]) -> list[tuple[str, str]]:
    return [
        (command.node, command.outcome.reason)
        for command in commands
        if isinstance(command, RecordOutcome) and isinstance(command.outcome, StepCancelled)
    ]


def test_any_takes_the_first_success_and_gives_up_the_rest() -> None:
    fold = three(kind="any")
    assert fold.fail("0-0") == []
    assert given_up(fold.succeed("0-2", {"a": 2})) == [("0-1", "not_needed")]
    assert only_end(fold.succeed("0-1", {"a": 1})).output == {"a": 2}


def test_any_fails_when_all_have() -> None:
    fold = three(kind="any")
    fold.fail("0-1", "first")
    fold.fail("0-0")
    end = only_end(fold.fail("0-2"))
    assert end.error is not None
    assert (end.status, end.error.code, end.error.details["node"]) == ("failed", "join_failed", "0")
    assert "0 of the 3" in end.error.message
    assert "it is first" in end.error.message


def test_a_quorum_is_enough() -> None:
    fold = three(kind="quorum", quorum=2, save_as="found")
    fold.succeed("0-0")
    assert given_up(fold.succeed("0-2")) == [("0-1", "not_needed")]
    end = only_end(fold.abandoned("0-1", "not_needed"))
    assert end.output is not None
    assert [result["status"] for result in end.output["found"]] == ["succeeded", "cancelled", "succeeded"]


def test_a_quorum_that_is_out_of_reach_fails_at_once() -> None:
    fold = three(kind="quorum", quorum=2)
    fold.fail("0-0")
    assert given_up(fold.fail("0-2")) == [("0-1", "sibling_failed")]
    end = only_end(fold.succeed("0-1"))
    assert end.error is not None
    assert end.error.code == "join_failed"
    assert "1 of the 3" in end.error.message
    assert "takes 2" in end.error.message


def test_best_effort_waits_for_all_and_takes_what_there_is() -> None:
    fold = three(kind="best_effort")
    fold.fail("0-0")
    fold.succeed("0-1", {"a": 1})
    assert only_end(fold.lose("0-2")).output == {"a": 1}


@pytest.mark.parametrize("kind", ["any", "quorum", "best_effort"])
def test_a_run_that_is_cancelled_ends_so_however_it_joins(kind: str) -> None:
    fold = three(kind=kind, quorum=1)
    fold.cancel()
    for node in BRANCHES[:-1]:
        fold.abandoned(node, "cancel_requested")
    assert only_end(fold.abandoned("0-2", "cancel_requested")).status == "cancelled"
    assert fold.statuses()["0"] == "cancelled"


# --- a time to join in ---


def test_a_join_s_time_is_set_when_it_starts() -> None:
    fold = three(timeout_ms=2_000)
    due_ms = ACCEPTED_MS + 2_000
    assert SetTimer(due_ms, StepDue(time_ms=due_ms, node="0")) in fold.opening
    assert SetTimer(due_ms, StepDue(time_ms=due_ms, node="0")) in resume(fold.again())


def test_its_time_counts_once_it_is_recorded() -> None:
    """As an outcome in a slot of the join's own, so that every replay sees it where it was."""
    fold = three(timeout_ms=2_000)
    fold.succeed("0-0", {"a": 1})
    commands = fold.due("0")
    (command,) = commands
    assert isinstance(command, RecordOutcome)
    assert (command.pool, command.node, command.attempt) == (ROUTER_POOL, "0", 1)
    assert given_up(fold.proposed(commands)) == [("0-1", "join_timed_out"), ("0-2", "join_timed_out")]
    fold.abandoned("0-1", "join_timed_out")
    end = only_end(fold.abandoned("0-2", "join_timed_out"))
    assert end.error is not None
    assert (end.status, end.error.code) == ("failed", "join_timed_out")
    assert fold.statuses()["0"] == "timed_out"


def late(**more: Any) -> tuple[str, Any]:
    """How a join ends, and with what, when one branch has succeeded, one failed, and the time is over."""
    fold = three(timeout_ms=2_000, **more)
    fold.succeed("0-0", {"a": 1})
    if more.get("on_error") == "collect" or more.get("kind", "all") != "all":
        fold.fail("0-1")
    fold.proposed(fold.due("0"))
    commands = fold.abandoned("0-2", "join_timed_out")
    if fold.state.runs["0"].open:
        commands = fold.abandoned("0-1", "join_timed_out")
    end = only_end(commands)
    return fold.statuses()["0"], end.output if end.error is None else end.error.code


@pytest.mark.parametrize(
    ("how", "ends"),
    [
        ({}, ("timed_out", "join_timed_out")),
        ({"on_error": "collect"}, ("succeeded", {"a": 1})),
        ({"kind": "best_effort"}, ("succeeded", {"a": 1})),
        ({"kind": "quorum", "quorum": 2}, ("timed_out", "join_timed_out")),
    ],
)
def test_what_its_time_means_for_each_kind(how: dict[str, Any], ends: tuple[str, Any]) -> None:
    assert late(**how) == ends


def test_any_without_a_success_in_time() -> None:
    fold = Fold(parallel("0", task("0-0"), kind="any", timeout_ms=2_000))
    fold.proposed(fold.due("0"))
    assert only_end(fold.abandoned("0-0", "join_timed_out")).status == "failed"
    assert fold.statuses()["0"] == "timed_out"


def test_a_branch_that_is_faster_than_its_being_given_up_counts() -> None:
    fold = three(kind="best_effort", timeout_ms=2_000)
    fold.proposed(fold.due("0"))
    fold.succeed("0-0", {"a": 1})
    fold.abandoned("0-1", "join_timed_out")
    assert only_end(fold.abandoned("0-2", "join_timed_out")).output == {"a": 1}


def test_the_time_of_a_join_that_is_settled_or_given_up_does_not_matter() -> None:
    settled = three(kind="any", timeout_ms=2_000)
    settled.succeed("0-0")
    assert settled.due("0") == []
    outcome = StepTimedOut(error=error("join_timed_out"))
    assert settled.outcome("0", outcome) == []
    assert settled.state.ignored == 2
    cancelled = three(timeout_ms=2_000)
    cancelled.cancel()
    assert cancelled.due("0") == []


@pytest.mark.parametrize("outcome", [StepSucceeded(outputs={}), StepCancelled(), StepFailed(error=error())])
def test_nothing_but_its_time_counts_in_a_join_s_own_slot(outcome: StepOutcome) -> None:
    fold = three(timeout_ms=2_000)
    assert fold.outcome("0", outcome) == []
    assert fold.state.ignored == 1


def test_a_time_that_another_owner_recorded_counts_though_the_run_is_being_cancelled() -> None:
    fold = three(timeout_ms=2_000)
    fold.cancel()
    assert fold.outcome("0", StepTimedOut(error=error("join_timed_out"))) == []
    for node in BRANCHES[:-1]:
        fold.abandoned(node, "cancel_requested")
    assert only_end(fold.abandoned("0-2", "cancel_requested")).status == "cancelled"
    assert fold.statuses()["0"] == "cancelled"
