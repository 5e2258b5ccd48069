"""Starting goes down the tree, ends go up, abandoning goes down: through several levels at once."""

from __future__ import annotations

from dspex_bus.wire import StepCancelled
from dspex_router.core import Dispatch, RecordOutcome, TellCancelled

from .building import POOL, Fold, only_end, parallel, sequence, steady, task


def sent(commands: object) -> list[str]:
    assert isinstance(commands, list)
    return [command.task.node for command in commands if isinstance(command, Dispatch)]


def test_a_group_starts_down_to_its_first_steps() -> None:
    fold = Fold(
        parallel("0", sequence("0-0", parallel("0-0-0", task("0-0-0-0"), task("0-0-0-1")), task("0-0-1")), task("0-1"))
    )
    assert sent(fold.opening) == ["0-0-0-0", "0-0-0-1", "0-1"]
    assert set(fold.statuses().values()) == {"running"}
    assert fold.state.runs["0-0-0-1"].parent is fold.state.runs["0-0-0"]
    assert fold.state.runs["0"].parent is fold.state.root


def test_one_outcome_can_end_every_level() -> None:
    fold = Fold(sequence("0", parallel("0-0", sequence("0-0-0", task("0-0-0-0")))), task("1"))
    assert sent(fold.succeed("0-0-0-0", {"a": 1})) == ["1"]
    assert {status for node, status in fold.statuses().items() if node != "1"} == {"succeeded"}
    assert all(run.ended_ms == fold.now_ms for node, run in fold.state.runs.items() if node != "1")


def test_one_failure_can_end_every_level() -> None:
    fold = Fold(sequence("0", parallel("0-0", sequence("0-0-0", task("0-0-0-0"))), task("0-1")), task("1"))
    end = only_end(fold.fail("0-0-0-0"))
    assert end.error is not None
    assert end.error.details["node"] == "0-0-0-0"
    assert set(fold.statuses().values()) == {"failed"}


def test_a_failure_below_a_collecting_parallel_goes_no_further() -> None:
    inner = parallel("0-0", task("0-0-0"), task("0-0-1"))
    fold = Fold(parallel("0", inner, task("0-1"), on_error="collect", save_as="found"))
    assert fold.fail("0-0-0") == [
        RecordOutcome(POOL, "0-0-1", 1, StepCancelled(reason="sibling_failed")),
        TellCancelled((("0-0-1", 1),)),
    ]
    fold.abandoned("0-0-1", "sibling_failed")
    assert fold.statuses() == {
        "0": "running",
        "0-0": "failed",
        "0-0-0": "failed",
        "0-0-1": "cancelled",
        "0-1": "running",
    }


def test_what_is_abandoned_already_is_not_abandoned_again() -> None:
    """A sibling's failure, then the cancel of the run: each slot is proposed for once."""
    fold = Fold(parallel("0", task("0-0"), sequence("0-1", task("0-1-0")), task("0-2")), task("1"))
    fold.fail("0-0")
    assert fold.cancel() == []
    assert fold.run("0-2").abandoned == "sibling_failed"
    fold.succeed("0-2")
    assert only_end(fold.succeed("0-1-0")).status == "cancelled"


def test_abandoning_ends_what_waits_and_asks_for_what_runs() -> None:
    waits = task("0-0", retry=steady(3, delay_s=100))
    fold = Fold(parallel("0", waits, sequence("0-1", task("0-1-0"))))
    fold.fail("0-0", retryable=True)
    assert fold.cancel() == [
        RecordOutcome(POOL, "0-1-0", 1, StepCancelled(reason="cancel_requested")),
        TellCancelled(),
    ]
    assert fold.statuses()["0-0"] == "cancelled"


def test_an_abandoned_sequence_whose_step_waits_ends_with_it() -> None:
    waits = task("0-1-0", retry=steady(3, delay_s=100))
    fold = Fold(parallel("0", task("0-0"), sequence("0-1", waits, task("0-1-1"))))
    fold.fail("0-1-0", retryable=True)
    only_end(fold.fail("0-0"))
    assert fold.statuses() == {"0": "failed", "0-0": "failed", "0-1": "cancelled", "0-1-0": "cancelled"}
