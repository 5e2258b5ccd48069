"""Branches, which take one way, and loops, which go round."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_router.core import Command, Dispatch

from .building import Fold, branch, loop, only_end, parallel, task


def sent(commands: list[Command]) -> list[tuple[str, dict[str, Any]]]:
    return [(command.task.node, command.task.inputs) for command in commands if isinstance(command, Dispatch)]


def ways(**input: Any) -> Fold:
    """Two cases and another way; each body reads everything."""
    return Fold(
        branch(
            "0",
            ("n > 5", task("0-0-0", reads_all=True)),
            ("n > 2", task("0-1-0", reads_all=True)),
            otherwise=task("0-2-0", reads_all=True),
        ),
        task("1", reads_all=True),
        input=input,
    )


# --- branch ---


@pytest.mark.parametrize(("n", "node"), [(9, "0-0-0"), (3, "0-1-0"), (0, "0-2-0")])
def test_the_first_case_that_holds_is_taken(n: int, node: str) -> None:
    fold = ways(n=n)
    assert sent(fold.opening) == [(node, {"n": n})]
    assert set(fold.statuses()) == {"0", node.rpartition("-")[0], node}


def test_what_follows_reads_what_the_way_wrote() -> None:
    fold = ways(n=0)
    assert sent(fold.succeed("0-2-0", {"a": None})) == [("1", {"n": 0, "a": None})]


def test_where_none_holds_and_there_is_no_other_way_nothing_is_written() -> None:
    fold = Fold(branch("0", ("false", task("0-0-0"))), task("1", reads_all=True), input={"a": 1})
    assert sent(fold.opening) == [("1", {"a": 1})]
    assert fold.statuses() == {"0": "succeeded", "1": "running"}


def test_a_branch_can_be_the_last_and_do_nothing() -> None:
    fold = Fold(branch("0", ("false", task("0-0-0"))))
    assert only_end(fold.opening[1:]).output == {}


def test_a_way_that_fails_fails_the_branch() -> None:
    fold = ways(n=0)
    end = only_end(fold.fail("0-2-0"))
    assert end.error is not None
    assert (end.status, end.error.details["node"], fold.statuses()["0"]) == ("failed", "0-2-0", "failed")


@pytest.mark.parametrize("input", [{}, {"n": "nine"}, {"n": None}])
def test_a_condition_that_cannot_be_evaluated_fails_the_branch(input: dict[str, Any]) -> None:
    fold = ways(**input)
    end = only_end(fold.opening[1:])
    assert end.error is not None
    assert (end.status, end.error.code, end.error.details["node"]) == ("failed", "condition_failed", "0")


def test_a_branch_that_is_given_up_gives_up_its_way() -> None:
    fold = ways(n=0)
    fold.cancel()
    assert fold.run("0-2-0").abandoned == fold.state.runs["0"].abandoned == "cancel_requested"
    only_end(fold.abandoned("0-2-0", "cancel_requested"))
    assert fold.statuses()["0"] == "cancelled"


# --- loop ---


def rounds(**more: Any) -> Fold:
    return Fold(loop("0", task("0-n-0", reads_all=True), **more), task("1", reads_all=True), input={"done": False})


def test_it_goes_round_until_its_condition_holds() -> None:
    fold = rounds()
    assert sent(fold.opening) == [("0-0-0", {"done": False})]
    assert sent(fold.succeed("0-0-0", {"a": 1})) == [("0-1-0", {"done": False, "a": 1})]
    assert sent(fold.succeed("0-1-0", {"done": True})) == [("1", {"done": True, "a": 1})]


def test_at_most_so_often() -> None:
    fold = rounds(at_most=2)
    fold.succeed("0-0-0")
    assert sent(fold.succeed("0-1-0")) == [("1", {"done": False})]


def test_rounds_that_have_ended_are_forgotten_but_counted() -> None:
    fold = rounds(at_most=9)
    for place in range(4):
        fold.succeed(f"0-{place}-0", {"n": place})
    assert set(fold.statuses()) == {"0", "0-4", "0-4-0"}
    assert (fold.state.counts["0-n-0"].started, fold.state.counts["0-n-0"].succeeded) == (5, 4)


def test_a_round_that_fails_is_the_last() -> None:
    fold = rounds()
    fold.succeed("0-0-0")
    end = only_end(fold.fail("0-1-0"))
    assert end.error is not None
    assert (end.status, end.error.details["node"]) == ("failed", "0-1-0")
    assert fold.state.counts["0-n-0"].failed == 1


@pytest.mark.parametrize("until", ["absent", "n"])
def test_a_condition_that_cannot_be_evaluated_fails_the_loop(until: str) -> None:
    fold = rounds(until=until)
    end = only_end(fold.succeed("0-0-0", {"n": 1}))
    assert end.error is not None
    assert (end.error.code, end.error.details["node"]) == ("condition_failed", "0")


def test_given_up_it_starts_no_other_round() -> None:
    fold = rounds()
    fold.cancel()
    assert only_end(fold.succeed("0-0-0")).status == "cancelled"
    assert fold.statuses() == {"0": "cancelled"}


def test_given_up_in_the_round_that_is_enough_it_can_still_succeed() -> None:
    fold = rounds()
    fold.cancel()
    fold.succeed("0-0-0", {"done": True})
    assert fold.statuses() == {"0": "succeeded"}


def test_loops_within_a_loop_forget_all_below() -> None:
    inner = loop("0-n-0", parallel("0-n-0-n-0", task("0-n-0-n-0-0"), task("0-n-0-n-0-1")), until="true")
    outer = loop("0", inner, branch("0-n-1", ("true", task("0-n-1-0-0"))), at_most=2, until="false")
    fold = Fold(outer, task("1"))
    fold.succeed("0-0-0-0-0-0")
    fold.succeed("0-0-0-0-0-1")
    assert set(fold.statuses()) == {"0", "0-0", "0-0-0", "0-0-1", "0-0-1-0", "0-0-1-0-0"}
    fold.succeed("0-0-1-0-0")
    assert set(fold.statuses()) == {"0", "0-1", "0-1-0", "0-1-0-0", *(f"0-1-0-0-0{tail}" for tail in ("", "-0", "-1"))}
