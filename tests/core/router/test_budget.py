"""What a session has used, and what its steps are told of its budget."""

from __future__ import annotations

import pytest

from dspex_bus.wire import Budget, ErrorInfo, StepFailed, StepOutcome, StepSucceeded, StepTimedOut, Usage
from dspex_router.core import Finish, StartChild, view

from .building import DEADLINE_MS, Fold, only_end, parallel, pipeline, steady, task
from .test_task import sent

BUDGET = Budget(cost=0.5, tokens=100)
SPENT = Usage(calls=1, input_tokens=30, output_tokens=10, cost=0.2)
WRONG = ErrorInfo(code="broken", message="", retryable=True)


def test_a_step_is_told_the_budget_and_what_was_used_before_it() -> None:
    fold = Fold(task("0"), task("1"), budget=BUDGET, tenant="acme")
    first = sent(fold.opening)
    assert (first.budget, first.used, first.tenant) == (BUDGET, None, "acme")
    second = sent(fold.outcome("0", StepSucceeded(outputs={}, usage=SPENT)))
    assert (second.budget, second.used, second.tenant) == (BUDGET, SPENT, "acme")


def test_a_run_without_a_budget_sends_nothing_of_it() -> None:
    fold = Fold(task("0"), task("1"))
    second = sent(fold.outcome("0", StepSucceeded(outputs={}, usage=SPENT)))
    assert (second.budget, second.used, second.tenant) == (None, None, "")


@pytest.mark.parametrize(
    "outcome", [StepFailed(error=WRONG, usage=SPENT), StepTimedOut(error=WRONG, usage=SPENT)], ids=["failed", "late"]
)
def test_attempts_that_did_not_succeed_have_used_it_too(outcome: StepOutcome) -> None:
    fold = Fold(task("0", retry=steady(2, delay_s=0)), budget=BUDGET)
    assert sent(fold.outcome("0", outcome)).used == SPENT


def test_the_end_and_its_result_say_what_the_run_used() -> None:
    fold = Fold(parallel("0", task("0-0"), task("0-1")))
    fold.outcome("0-0", StepSucceeded(outputs={}, usage=SPENT))
    assert view(fold.state).usage == SPENT
    ended = only_end(fold.outcome("0-1", StepSucceeded(outputs={}, usage=Usage(calls=1, input_tokens=1))))
    assert ended.usage == Usage(calls=2, input_tokens=31, output_tokens=10, cost=0.2)
    (command,) = fold.end()
    assert isinstance(command, Finish)
    assert command.result.usage == ended.usage


def test_an_outcome_told_twice_counts_once() -> None:
    fold = Fold(task("0"), task("1"))
    fold.outcome("0", StepSucceeded(outputs={}, usage=SPENT))
    fold.outcome("0", StepSucceeded(outputs={}, usage=SPENT))
    assert fold.state.usage == SPENT


@pytest.mark.parametrize(
    ("budget", "left"),
    [
        (None, None),
        (Budget(), Budget()),
        (BUDGET, Budget(cost=0.3, tokens=60)),
        (Budget(cost=0.1, tokens=39), Budget(cost=0, tokens=0)),
    ],
)
def test_a_pipeline_within_gets_what_is_left(budget: Budget | None, left: Budget | None) -> None:
    fold = Fold(task("0"), pipeline("1"), budget=budget, tenant="acme")
    (command,) = fold.outcome("0", StepSucceeded(outputs={}, usage=SPENT))
    assert isinstance(command, StartChild)
    assert command.accepted.budget == left
    assert (command.accepted.tenant, command.accepted.deadline_ms) == ("acme", DEADLINE_MS)
    assert fold.run("1").node.id == "1"


def test_nothing_used_leaves_all_of_it() -> None:
    fold = Fold(pipeline("0"), budget=BUDGET)
    (command,) = fold.opening[1:]
    assert isinstance(command, StartChild)
    assert command.accepted.budget == BUDGET
