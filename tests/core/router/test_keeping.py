"""What a session keeps of another that has made its rounds and items: they are not made again."""

from __future__ import annotations

from typing import Any

from dspex_bus.wire import Node, Rounds
from dspex_router.core import Dispatch, keeping

from .building import Fold, branch, loop, mapped, only_end, parallel, sleep, task, wait
from .test_saved import check


def again(fold: Fold, *steps: Node, **more: Any) -> Fold:
    """The session that goes on from where another stands."""
    kept, rounds = keeping(fold.state)
    made = Fold(*steps, kept=kept, rounds=rounds, **more)
    check(made.journal, 1)
    return made


def sent(fold: Fold) -> list[str]:
    return [command.task.node for command in fold.opening if isinstance(command, Dispatch)]


ROUNDS = (loop("0", task("0-n-0"), task("0-n-1", reads_all=True), until="done", at_most=4), task("1", reads_all=True))
ITEMS = (mapped("0", task("0-n-0"), limit=2), task("1", reads_all=True))


def rounds(count: int) -> Fold:
    fold = Fold(*ROUNDS, input={"done": False})
    for round in range(count):
        fold.succeed(f"0-{round}-0", {"a": round})
        fold.succeed(f"0-{round}-1", {f"b{round}": round, "done": round == 3})
    return fold


def test_a_loop_goes_on_in_the_round_it_is_in() -> None:
    fold = rounds(2)
    fold.succeed("0-2-0", {"a": 2})
    other = again(fold, *ROUNDS, input={"done": False})
    assert sent(other) == ["0-2-1"]
    assert other.run("0-2-1").context.whole() == fold.run("0-2-1").context.whole()
    for made in (fold, other):
        made.succeed("0-2-1", {"b2": 2})
        made.succeed("0-3-0")
        made.succeed("0-3-1", {"b3": 3})
        assert "0" not in made.state.waits
        made.succeed("1", {"c": 1})
    assert other.state.proposed == fold.state.proposed


def test_a_loop_in_its_first_round_starts_anew() -> None:
    assert keeping(rounds(0).state) == ({}, {})
    assert sent(again(rounds(0), *ROUNDS, input={"done": False})) == ["0-0-0"]


def test_a_loop_that_is_over_is_over() -> None:
    fold = rounds(4)
    kept, going = keeping(fold.state)
    assert (set(kept), going) == ({"0"}, {})
    other = again(fold, *ROUNDS, input={"done": False})
    assert sent(other) == ["1"]
    assert other.run("1").context.whole() == fold.run("1").context.whole()


def test_of_a_loop_that_failed_the_last_round_is_made_again() -> None:
    fold = rounds(3)
    fold.fail("0-3-0")
    assert keeping(fold.state)[1] == {"0": Rounds(done=3, fields={"a": 2, "b0": 0, "b1": 1, "b2": 2, "done": False})}
    assert sent(again(fold, *ROUNDS, input={"done": False})) == ["0-3-0"]


def test_items_that_are_done_are_not_done_again() -> None:
    fold = Fold(*ITEMS, input={"items": [0, 1, 2, 3]})
    fold.succeed("0-1-0", {"a": 1})
    fold.succeed("0-2-0", {"a": 2})
    other = again(fold, *ITEMS, input={"items": [0, 1, 2, 3]})
    assert sent(other) == ["0-0-0", "0-3-0"]
    for made in (fold, other):
        made.succeed("0-0-0", {"a": 0})
        made.succeed("0-3-0", {"a": 3})
        assert made.run("1").context.get("a") == [0, 1, 2, 3]


def test_a_map_that_is_over_and_items_that_failed() -> None:
    collects = mapped("0", task("0-n-0"), on_error="collect", save_as="all")
    fails = mapped("1", task("1-n-0"))
    steps = (collects, fails, task("2"))
    fold = Fold(*steps, input={"items": [0, 1]})
    fold.succeed("0-0-0", {"a": 0})
    fold.fail("0-1-0")
    fold.succeed("1-0-0", {"a": 0})
    fold.fail("1-1-0")
    other = again(fold, *steps, input={"items": [0, 1]})
    assert sent(other) == ["1-1-0"]
    assert other.state.runs["0"].written == fold.state.runs["0"].written


def test_what_was_kept_before_is_kept_on() -> None:
    steps = (task("0"), loop("1", task("1-n-0"), until="done"), wait("2"))
    fold = Fold(*steps, input={"done": False}, kept={"0": {"a": 0}}, rounds={"1": Rounds(done=1, fields={"b": 0})})
    assert sent(fold) == ["1-1-0"]
    fold.succeed("1-1-0", {"b": 1})
    kept, going = keeping(fold.state)
    assert (kept, going) == ({"0": {"a": 0}}, {"1": Rounds(done=2, fields={"b": 1})})


def test_kept_groups_of_every_kind_have_nothing_below_them() -> None:
    """Also in a round that is forgotten, and one in a sequence that is saved."""
    below = parallel("0-n-0", task("0-n-0-0"), task("0-n-0-1"))
    steps = (loop("0", below, branch("0-n-1", ("true", task("0-n-1-0-0"))), sleep("0-n-2"), until="true", at_most=2),)
    kept = {"0-0-0": {"a": 0}, "0-0-1": {"b": 1}}
    fold = Fold(*steps, kept=kept)
    check(fold.journal, 1)
    assert fold.statuses() == {
        "0": "running",
        "0-0": "running",
        "0-0-0": "succeeded",
        "0-0-1": "succeeded",
        "0-0-2": "running",
    }
    ended = only_end(fold.proposed(fold.due("0-0-2")))
    assert ended.output == {"a": 0, "b": 1}
