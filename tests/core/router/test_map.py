"""Steps for each item of a list: the same join, branches started a few at a time."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from dspex_bus.wire import StepCancelled
from dspex_router.core import Command, Dispatch, RecordOutcome

from .building import POOL, Fold, branch, mapped, only_end, sequence, task


def sent(commands: list[Command]) -> list[tuple[str, dict[str, Any]]]:
    return [(command.task.node, command.task.inputs) for command in commands if isinstance(command, Dispatch)]


def items(count: int, **more: Any) -> Fold:
    """A map over 0, 1, 2, …; what follows reads everything."""
    body = task("0-n-0", reads={"item": "item"})
    return Fold(mapped("0", body, **more), task("1", reads_all=True), input={"items": list(range(count))})


def test_each_item_is_sent_by_its_name() -> None:
    assert sent(items(2).opening) == [("0-0-0", {"item": 0}), ("0-1-0", {"item": 1})]


def test_an_item_hides_a_field_of_its_name_only_inside() -> None:
    fold = Fold(mapped("0", task("0-n-0", reads_all=True)), task("1", reads_all=True), input={"items": [1], "item": 0})
    assert sent(fold.opening) == [("0-0-0", {"items": [1], "item": 1})]
    assert sent(fold.succeed("0-0-0", {"a": 1})) == [("1", {"items": [1], "item": 0, "a": [1]})]


def test_a_few_at_a_time() -> None:
    fold = items(4, limit=2)
    assert [node for node, _ in sent(fold.opening)] == ["0-0-0", "0-1-0"]
    assert sent(fold.succeed("0-1-0")) == [("0-2-0", {"item": 2})]
    assert sent(fold.succeed("0-0-0")) == [("0-3-0", {"item": 3})]
    assert sent(fold.succeed("0-3-0")) == []
    assert [node for node, _ in sent(fold.succeed("0-2-0"))] == ["1"]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_results_come_in_the_items_order(order: tuple[int, ...]) -> None:
    fold = items(3)
    for place in order[:-1]:
        fold.succeed(f"0-{place}-0", {"n": place})
    ((_, inputs),) = sent(fold.succeed(f"0-{order[-1]}-0", {"n": order[-1]}))
    assert inputs["n"] == [0, 1, 2]


def test_a_field_that_an_item_did_not_write_is_null_in_its_place() -> None:
    fold = items(2)
    fold.succeed("0-0-0", {"a": False})
    ((_, inputs),) = sent(fold.succeed("0-1-0", {"b": 1}))
    assert (inputs["a"], inputs["b"]) == ([False, None], [None, 1])


def test_of_an_empty_list_come_empty_lists() -> None:
    fold = items(0, columns=("a", "b"))
    assert sent(fold.opening) == [("1", {"items": [], "a": [], "b": []})]


def test_with_save_as_each_item_s_outcome_is_kept() -> None:
    fold = items(3, save_as="found", on_error="collect", limit=1)
    fold.succeed("0-0-0", {"a": 0})
    fold.fail("0-1-0", "busy")
    ((_, inputs),) = sent(fold.lose("0-2-0"))
    first, second, third = inputs["found"]
    assert first == {"index": 0, "status": "succeeded", "outputs": {"a": 0}}
    assert (second["index"], second["status"], second["error"]["code"]) == (1, "failed", "busy")
    assert third["error"]["details"]["node"] == "0-2-0"


@pytest.mark.parametrize(
    ("input", "code"), [({}, "missing_field"), ({"items": None}, "invalid_input"), ({"items": "abc"}, "invalid_input")]
)
def test_what_is_no_list_fails_it(input: dict[str, Any], code: str) -> None:
    fold = Fold(mapped("0", task("0-n-0")), input=input)
    end = only_end(fold.opening[1:])
    assert end.error is not None
    assert (end.status, end.error.code, end.error.details["node"]) == ("failed", code, "0")


def test_a_failure_starts_no_more_and_abandons_what_runs() -> None:
    fold = items(5, limit=2)
    commands = fold.fail("0-0-0")
    assert commands[0] == RecordOutcome(POOL, "0-1-0", 1, StepCancelled(reason="sibling_failed"))
    assert sent(commands) == []
    end = only_end(fold.abandoned("0-1-0", "sibling_failed"))
    assert end.error is not None
    assert end.error.details["node"] == "0-0-0"


def test_items_that_have_ended_are_forgotten_but_counted() -> None:
    fold = items(9, limit=1, on_error="collect")
    for place in range(4):
        (fold.fail if place == 2 else fold.succeed)(f"0-{place}-0")
    assert set(fold.statuses()) == {"0", "0-4", "0-4-0"}
    counts = fold.state.counts["0-n-0"]
    assert (counts.started, counts.succeeded, counts.failed) == (5, 3, 1)


def test_the_outcome_of_an_item_that_is_forgotten_does_not_count() -> None:
    fold = items(3, limit=1)
    fold.succeed("0-0-0")
    assert fold.fail("0-0-0", attempt=1) == []
    assert fold.state.ignored == 1


def test_cancelled_it_starts_no_more() -> None:
    fold = items(5, limit=2)
    fold.cancel()
    assert fold.succeed("0-0-0") == []
    assert only_end(fold.abandoned("0-1-0", "cancel_requested")).status == "cancelled"
    assert fold.statuses() == {"0": "cancelled"}


def test_cancelled_between_items_it_is_cancelled_though_none_failed() -> None:
    fold = items(3, limit=1)
    fold.cancel("enough")
    assert only_end(fold.succeed("0-0-0")).status == "cancelled"
    error = fold.state.runs["0"].error
    assert error is not None
    assert error.code == "cancelled"


def test_cancelled_at_its_last_item_it_can_still_succeed() -> None:
    fold = items(1)
    fold.cancel()
    fold.succeed("0-0-0")
    assert fold.statuses() == {"0": "succeeded"}


def test_enough_of_them_are_enough() -> None:
    fold = items(5, limit=2, kind="quorum", quorum=2, save_as="found")
    fold.succeed("0-0-0", {"a": 0})
    fold.fail("0-1-0")
    commands = fold.succeed("0-2-0", {"a": 2})
    assert [command.node for command in commands if isinstance(command, RecordOutcome)] == ["0-3-0"]
    ((_, inputs),) = sent(fold.abandoned("0-3-0", "not_needed"))
    assert [result["status"] for result in inputs["found"]] == [
        "succeeded",
        "failed",
        "succeeded",
        "cancelled",
        "cancelled",
    ]
    assert "not_needed" in inputs["found"][4]["error"]["message"]


def test_any_writes_the_winner_s_fields_alone() -> None:
    fold = items(3, kind="any")
    fold.succeed("0-1-0", {"a": 1})
    fold.abandoned("0-0-0", "not_needed")
    ((_, inputs),) = sent(fold.succeed("0-2-0", {"a": 2}))
    assert inputs["a"] == 1


def test_of_no_items_there_is_no_success_to_take() -> None:
    fold = items(0, kind="any")
    end = only_end(fold.opening[1:])
    assert end.error is not None
    assert (end.status, end.error.code) == ("failed", "join_failed")


def test_a_quorum_of_more_than_there_are_starts_none() -> None:
    fold = items(2, kind="quorum", quorum=3, timeout_ms=500)
    error = only_end(fold.opening[1:]).error
    assert error is not None
    assert error.code == "join_failed"
    assert "0 of the 2 branches" in error.message
    assert fold.state.runs.keys() == {"0"}


def test_maps_within_a_map() -> None:
    inner = mapped("0-n-0", sequence("0-n-0-n-0", task("0-n-0-n-0-0", reads={"x": "x"})), over="item", item="x")
    way = branch("0-n-1", ("false", task("0-n-1-0-0")))
    fold = Fold(mapped("0", inner, way), input={"items": [[1, 2], []]})
    assert sent(fold.opening) == [("0-0-0-0-0-0", {"x": 1}), ("0-0-0-1-0-0", {"x": 2})]
    fold.succeed("0-0-0-0-0-0", {"a": 1})
    end = only_end(fold.succeed("0-0-0-1-0-0", {"a": 2}))
    assert end.output == {"a": [[1, 2], None]}


def test_the_list_is_sent_to_who_names_it() -> None:
    """A step that takes whatever there is would get it with each of its own items."""
    body = (task("0-n-0", reads_all=True), task("0-n-1", reads={"all": "items"}))
    fold = Fold(mapped("0", *body, hidden="items"), task("1", reads_all=True), input={"items": [1], "x": 2})
    assert sent(fold.opening) == [("0-0-0", {"item": 1, "x": 2})]
    assert sent(fold.succeed("0-0-0")) == [("0-0-1", {"all": [1]})]
    assert sent(fold.succeed("0-0-1", {"a": 3})) == [("1", {"items": [1], "x": 2, "a": [3]})]


def test_what_an_item_writes_under_the_list_s_name_is_its_own() -> None:
    body = (task("0-n-0"), task("0-n-1", reads_all=True), task("0-n-2", reads={"all": "items"}))
    fold = Fold(mapped("0", *body, hidden="items"), input={"items": [1]})
    fold.succeed("0-0-0", {"items": "mine"})
    assert sent(fold.succeed("0-0-1")) == [("0-0-2", {"all": "mine"})]
