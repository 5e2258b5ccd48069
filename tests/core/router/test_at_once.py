"""What one event may begin is bounded: nothing that a definition says keeps a router busy for ever."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_bus.wire import Node
from dspex_router.core import Dispatch, tree

from .building import Fold, branch, loop, mapped, only_end, task

MOST = 100


@pytest.fixture(autouse=True)
def _fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MOST_AT_ONCE", MOST)


def nothing(id: str) -> Node:
    """A branch that takes no way."""
    return branch(id, ("false", task(f"{id}-0-0")))


def over(count: int, *steps: Node, **more: Any) -> Fold:
    return Fold(*steps, input={"items": list(range(count))}, **more)


@pytest.mark.parametrize(
    "steps",
    [
        loop("0", loop("0-n-0", nothing("0-n-0-n-0"), until="false", at_most=9_999), until="false", at_most=9_999),
        mapped("0", mapped("0-n-0", nothing("0-n-0-n-0"))),
    ],
    ids=["loops in loops", "maps in maps"],
)
def test_much_ado_about_nothing_fails(steps: Node) -> None:
    fold = over(60, steps)
    error = only_end(fold.opening[1:]).error
    assert error is not None
    assert error.code == "too_much_at_once"
    assert "more than 100 would begin at once" in error.message
    assert fold.state.counts["0-n-0-n-0"].started < MOST


def test_where_failures_are_collected_it_comes_to_an_end_too() -> None:
    inner = mapped("0-n-0", nothing("0-n-0-n-0"), on_error="collect", save_as="inner")
    ended = only_end(over(60, mapped("0", inner, limit=1, on_error="collect", save_as="all")).opening[1:])
    assert ended.output is not None
    assert [item["status"] for item in ended.output["all"]] == ["succeeded"] + 59 * ["failed"]


def test_more_than_can_be_sent_fails() -> None:
    fold = over(60, mapped("0", task("0-n-0"), limit=60))
    sent = [command for command in fold.opening if isinstance(command, Dispatch)]
    assert len(sent) < MOST
    for command in sent:
        last = fold.abandoned(command.task.node, "sibling_failed")
    error = only_end(last).error
    assert error is not None
    assert error.code == "too_much_at_once"
    assert "give maps a lower 'limit'" in error.message


def test_as_many_as_one_likes_a_few_at_a_time() -> None:
    fold = over(200, mapped("0", task("0-n-0"), limit=10))
    for place in range(200):
        last = fold.succeed(f"0-{place}-0")
    assert only_end(last).status == "succeeded"


def test_what_is_kept_does_not_count() -> None:
    kept = {f"0-{place}-0": {"n": place} for place in range(200)}
    ended = only_end(over(200, mapped("0", task("0-n-0")), kept=kept).opening[1:])
    assert ended.output == {"n": list(range(200))}
