"""Steps that travel together: what goes along, and what comes of it."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_bus.wire import Followed, Following, StepSucceeded, StepTimedOut, Usage
from dspex_router.core import Command, Dispatch, RecordEnd, resume, view

from .building import (
    POOL,
    Fold,
    branch,
    error,
    loop,
    mapped,
    only_end,
    parallel,
    sequence,
    sleep,
    snapshot,
    steady,
    task,
)


def sent(commands: list[Command]) -> Any:
    (found,) = [command.task for command in commands if isinstance(command, Dispatch)]
    return found


def along(commands: list[Command]) -> list[str]:
    return [following.node for following in sent(commands).then]


def together(outputs: dict[str, Any], *then: tuple[str, dict[str, Any]], usage: Usage | None = None) -> StepSucceeded:
    followed = tuple(Followed(node=node, outputs=made, started_ms=7, duration_us=9, usage=usage) for node, made in then)
    return StepSucceeded(outputs=outputs, worker="w", started_ms=5, duration_us=3, then=followed)


def test_what_goes_along_brings_all_that_it_needs() -> None:
    first = task("0", writes={"a": "b"}, save_as="first", reads={"q": "q"}, fuse=2)
    second = task("1", reads={"q": "page.text", "r": "absent", "f": "first.b"}, optional=("r",), options={"k": 0})
    fold = Fold(first, second, task("2", writes={"x": "y"}, save_as="z"), input={"q": 1, "page": {"text": 0}, "no": 1})
    task_ = sent(fold.opening)
    assert task_.inputs == {"q": 1}
    assert (task_.writes, task_.save_as, task_.context) == ({"a": "b"}, "first", {"page": {"text": 0}})
    assert task_.then == (
        Following(
            node="1",
            handler="h",
            options={"k": 0},
            reads={"q": "page.text", "r": "absent", "f": "first.b"},
            optional=("r",),
            timeout_ms=5_000,
        ),
        Following(node="2", handler="h", writes={"x": "y"}, save_as="z", timeout_ms=5_000),
    )
    assert task_.longest_ms == 15_000


def test_one_that_reads_everything_has_everything_along() -> None:
    fold = Fold(task("0", fuse=1), task("1", reads_all=True), input={"a": None, "b": 2})
    assert sent(fold.opening).context == {"a": None, "b": 2}
    assert sent(fold.opening).then[0].reads_all


def test_an_attempt_that_travels_by_itself_brings_nothing_more() -> None:
    task_ = sent(Fold(task("0", writes={"a": "b"}, save_as="c"), task("1", reads_all=True), input={"a": 1}).opening)
    assert (task_.writes, task_.save_as, task_.context, task_.then) == ({}, None, {}, ())


@pytest.mark.parametrize(
    ("after", "goes"),
    [
        ([task("1"), task("2"), task("3")], ["1", "2"]),
        ([task("1"), sleep("2"), task("3")], ["1"]),
        ([task("1"), task("2", pool="other")], ["1"]),
        ([parallel("1", task("1-0"))], []),
        ([], []),
    ],
)
def test_the_row_ends(after: list[Any], goes: list[str]) -> None:
    assert along(Fold(task("0", fuse=2), *after).opening) == goes


def test_one_that_is_kept_ends_the_row() -> None:
    fold = Fold(task("0", fuse=3), task("1"), task("2"), kept={"1": {"a": 0}})
    assert along(fold.opening) == []
    assert sent(fold.succeed("0")).node == "2"


def test_nothing_goes_along_but_in_a_sequence() -> None:
    fold = Fold(parallel("0", task("0-0", fuse=1), task("0-1")))
    assert [command.task.then for command in fold.opening if isinstance(command, Dispatch)] == [(), ()]
    fold.outcome("0-0", together({}, ("0-1", {"a": 1})))
    assert fold.statuses()["0-1"] == "running"


def test_what_came_back_counts_as_if_each_had_come_by_itself() -> None:
    steps = [task("0", fuse=2), task("1", writes={"b": "c"}), task("2", save_as="d"), task("3", reads_all=True)]
    together_, apart = Fold(*steps, input={"a": 0}), Fold(*steps, input={"a": 0})
    commands = together_.outcome("0", together({"a": 1}, ("1", {"b": 2}), ("2", {"e": None})))
    for node, outputs in (("0", {"a": 1}), ("1", {"b": 2}), ("2", {"e": None})):
        last = apart.succeed(node, outputs)
    assert sent(commands).inputs == sent(last).inputs == {"a": 1, "c": 2, "d": {"e": None}}
    assert together_.statuses() == apart.statuses()
    assert snapshot(together_.state) == snapshot(together_.again())


def test_the_last_of_the_row_may_be_the_last_of_the_run() -> None:
    fold = Fold(task("0", fuse=1), task("1"))
    assert only_end(fold.outcome("0", together({"a": 1}, ("1", {"b": 2})))).output == {"b": 2}


def test_what_did_not_come_back_is_sent_with_those_after_it() -> None:
    fold = Fold(*(task(str(place), fuse=3 - place) for place in range(4)))
    commands = fold.outcome("0", together({}, ("1", {})))
    assert (sent(commands).node, sent(commands).attempt, along(commands)) == ("2", 1, ["3"])
    assert fold.statuses() == {"0": "succeeded", "1": "succeeded", "2": "running"}


@pytest.mark.parametrize("named", ["2", "3", "0", "9", "x"])
def test_a_worker_is_not_believed_on_steps_that_it_was_not_sent(named: str) -> None:
    fold = Fold(task("0", fuse=1), task("1"), task("2"), parallel("3", task("3-0")))
    commands = fold.outcome("0", together({}, (named, {}), ("1", {})))
    assert sent(commands).node == "1"
    commands = fold.outcome("1", together({}, ("2", {})))
    assert sent(commands).node == "2"


def test_more_than_was_sent_is_not_believed() -> None:
    fold = Fold(task("0", fuse=1), task("1"), task("2"))
    assert sent(fold.outcome("0", together({}, ("1", {}), ("2", {})))).node == "2"


def test_an_attempt_that_follows_a_failure_takes_the_row_along_again() -> None:
    fold = Fold(task("0", fuse=1, retry=steady(2, delay_s=0)), task("1"))
    again = fold.fail("0", retryable=True)
    assert (sent(again).attempt, along(again)) == (2, ["1"])
    only_end(fold.outcome("0", together({}, ("1", {}))))


def test_one_that_failed_on_the_way_has_all_its_attempts() -> None:
    """The worker leaves it out; it is sent by itself, and only that is its first attempt."""
    fold = Fold(task("0", fuse=2), task("1", fuse=1, retry=steady(2, delay_s=0)), task("2"))
    commands = fold.outcome("0", together({}))
    assert (sent(commands).node, sent(commands).attempt) == ("1", 1)
    commands = fold.fail("1", retryable=True)
    assert (sent(commands).attempt, along(commands)) == (2, ["2"])
    only_end(fold.outcome("1", together({}, ("2", {}))))


def test_items_and_rounds() -> None:
    fold = Fold(
        mapped("0", task("0-n-0", fuse=2), task("0-n-1"), task("0-n-2")),
        loop("1", task("1-n-0", fuse=1), task("1-n-1"), at_most=2),
        branch("2", ("true", sequence("2-0-0", task("2-0-0-0", fuse=1), task("2-0-0-1")))),
        input={"items": [0], "done": False},
    )
    assert along(fold.opening) == ["0-0-1", "0-0-2"]
    commands = fold.outcome("0-0-0", together({}, ("0-0-1", {"a": 1}), ("0-0-2", {"a": 2})))
    assert along(commands) == ["1-0-1"]
    assert along(fold.outcome("1-0-0", together({}, ("1-0-1", {"b": 1})))) == ["1-1-1"]
    assert along(fold.outcome("1-1-0", together({}, ("1-1-1", {"b": 2})))) == ["2-0-0-1"]
    only_end(fold.outcome("2-0-0-0", together({}, ("2-0-0-1", {"c": 3}))))
    counts = {node: (counts.started, counts.succeeded) for node, counts in fold.state.counts.items()}
    assert counts["0-n-0"] == counts["0-n-1"] == counts["0-n-2"] == (1, 1)
    assert counts["1-n-1"] == (2, 2)


def test_a_pause_holds_what_is_next_after_the_row() -> None:
    fold = Fold(task("0", fuse=1), task("1"), task("2"))
    fold.pause()
    assert fold.outcome("0", together({}, ("1", {}))) == []
    assert fold.statuses() == {"0": "succeeded", "1": "succeeded", "2": "running"}
    assert sent(fold.go_on()).node == "2"


def test_nothing_of_the_row_begins_in_a_run_that_is_cancelled() -> None:
    fold = Fold(task("0", fuse=1), task("1"), task("2"))
    fold.cancel()
    (end,) = fold.outcome("0", together({}, ("1", {})))
    assert isinstance(end, RecordEnd)
    assert fold.statuses() == {"0": "succeeded"}


def test_nothing_of_the_row_begins_past_the_deadline() -> None:
    fold = Fold(task("0", fuse=1), task("1"), deadline_ms=5_000)
    end = only_end(fold.outcome("0", together({}, ("1", {})), at_ms=5_000))
    assert end.status == "timed_out"
    assert "1" not in fold.state.runs


def test_a_row_that_nobody_wants_any_more() -> None:
    fold = Fold(parallel("0", sequence("0-0", task("0-0-0", fuse=1), task("0-0-1")), task("0-1"), kind="any"))
    fold.succeed("0-1")
    assert only_end(fold.outcome("0-0-0", together({}, ("0-0-1", {})))).status == "succeeded"
    assert "0-0-1" not in fold.state.runs


def test_a_report_for_each_and_all_that_they_used() -> None:
    fold = Fold(task("0", fuse=1), task("1"))
    fold.outcome("0", together({}, ("1", {}), usage=Usage(calls=2, input_tokens=3)))
    first, second = view(fold.state).steps
    assert (first.status, first.worker, first.started_ms, first.duration_us) == ("succeeded", "w", 5, 3)
    assert (second.status, second.worker, second.started_ms, second.duration_us) == ("succeeded", "w", 7, 9)
    assert (second.attempt, second.usage) == (1, Usage(calls=2, input_tokens=3))
    assert fold.state.usage == Usage(calls=2, input_tokens=3)


def test_an_owner_that_takes_over_sends_the_same() -> None:
    fold = Fold(task("0", fuse=1), task("1", reads={"a": "a"}), input={"a": 1})
    assert sent(resume(fold.again())) == sent(fold.opening)


def test_a_failure_of_the_first_is_its_own_alone() -> None:
    fold = Fold(task("0", fuse=1), task("1"))
    end = only_end(fold.outcome("0", StepTimedOut(error=error("step_timed_out")), pool=POOL))
    assert end.status == "failed"
    assert "1" not in fold.state.runs
