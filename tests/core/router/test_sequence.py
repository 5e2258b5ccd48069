"""Steps in order."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_router.core import Dispatch

from .building import Fold, only_end, parallel, sequence, task


def inputs(commands: list[Any]) -> dict[str, dict[str, Any]]:
    """What each attempt that is sent reads, by node."""
    return {command.task.node: command.task.inputs for command in commands if isinstance(command, Dispatch)}


def test_each_step_reads_what_those_before_wrote() -> None:
    fold = Fold(task("0"), task("1", reads_all=True), task("2", reads_all=True), input={"a": 1, "b": 1})
    assert inputs(fold.succeed("0", {"b": 2})) == {"1": {"a": 1, "b": 2}}
    assert inputs(fold.succeed("1", {"b": None, "c": 3})) == {"2": {"a": 1, "b": None, "c": 3}}


def test_the_run_answers_with_its_last_step() -> None:
    fold = Fold(task("0"), task("1"))
    fold.succeed("0", {"a": 1})
    assert only_end(fold.succeed("1", {"b": 2})).output == {"b": 2}


@pytest.mark.parametrize("how", ["fail", "time_out", "lose"])
def test_a_step_without_success_ends_it(how: str) -> None:
    fold = Fold(sequence("0", task("0-0"), task("0-1")), task("1"))
    end = only_end(getattr(fold, how)("0-0"))
    assert end.status == "failed"
    assert end.error is not None
    assert end.error.details["node"] == "0-0"
    assert fold.statuses()["0"] == "failed"
    assert "1" not in fold.state.runs


def test_a_cancelled_step_cancels_it() -> None:
    fold = Fold(sequence("0", task("0-0"), task("0-1")))
    assert only_end(fold.abandoned("0-0", "by hand")).status == "cancelled"
    assert fold.statuses()["0"] == "cancelled"


def test_a_nested_sequence_writes_all_its_fields() -> None:
    fold = Fold(sequence("0", task("0-0"), task("0-1")), task("1", reads_all=True), input={"a": 0})
    fold.succeed("0-0", {"a": 1, "b": 1})
    assert inputs(fold.succeed("0-1", {"b": 2})) == {"1": {"a": 1, "b": 2}}


def test_a_nested_sequence_is_seen_by_nobody_before_it_ends() -> None:
    fold = Fold(
        parallel(
            "0",
            sequence("0-0", task("0-0-0"), task("0-0-1")),
            sequence("0-1", task("0-1-0"), task("0-1-1", reads_all=True)),
        ),
    )
    fold.succeed("0-0-0", {"a": 1})
    assert inputs(fold.succeed("0-1-0", {"b": 2})) == {"0-1-1": {"b": 2}}


def test_abandoned_it_starts_nothing_more_even_after_a_success() -> None:
    fold = Fold(sequence("0", task("0-0"), task("0-1")))
    fold.cancel("enough")
    end = only_end(fold.succeed("0-0", {"a": 1}))
    assert end.status == "cancelled"
    assert fold.statuses() == {"0-0": "succeeded", "0": "cancelled"}
    error = fold.state.runs["0"].error
    assert error is not None
    assert (error.code, error.details["node"]) == ("cancelled", "0")


def test_abandoned_at_its_last_step_it_can_still_succeed() -> None:
    fold = Fold(sequence("0", task("0-0")))
    fold.cancel()
    fold.succeed("0-0", {"a": 1})
    assert fold.statuses()["0"] == "succeeded"
