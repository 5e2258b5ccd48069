"""How a session ends, and what is answered."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_bus.wire import RunResult, SessionEnded
from dspex_router.core import Finish

from .building import ACCEPTED_MS, Fold, error, only_end, sequence, task


def test_named_outputs_come_from_the_whole_context() -> None:
    fold = Fold(task("0"), task("1"), input={"in": 0}, output=("in", "a", "b"))
    fold.succeed("0", {"a": None})
    assert only_end(fold.succeed("1", {"b": False})).output == {"in": 0, "a": None, "b": False}


def test_an_output_that_no_step_wrote_is_a_failure() -> None:
    fold = Fold(task("0"), input={"in": 0}, output=("in", "b"))
    end = only_end(fold.succeed("0", {"a": 1}))
    assert end.error is not None
    assert (end.status, end.error.code) == ("failed", "missing_field")
    assert end.error.details == {"field": "b", "known": ["a", "in"]}


def test_a_failure_names_its_step() -> None:
    fold = Fold(sequence("0", task("0-0")))
    end = only_end(fold.fail("0-0", "busy", retryable=True))
    assert end.error is not None
    assert (end.error.code, end.error.retryable) == ("busy", True)
    assert end.error.message == "step 'step 0-0' (0-0): it is busy"


@pytest.mark.parametrize(
    ("reason", "message"), [("", "the run was cancelled"), ("enough", "the run was cancelled: enough")]
)
def test_a_cancelled_run_says_why(reason: str, message: str) -> None:
    fold = Fold(task("0"))
    fold.cancel(reason)
    end = only_end(fold.abandoned("0", "cancel_requested"))
    assert end.error is not None
    assert (end.status, end.error.code, end.error.message) == ("cancelled", "cancelled", message)


def test_a_run_that_timed_out_says_how_long_it_had() -> None:
    fold = Fold(task("0"), deadline_ms=ACCEPTED_MS + 2_500)
    fold.deadline()
    end = only_end(fold.abandoned("0", "deadline_passed"))
    assert end.error is not None
    assert (end.status, end.error.code) == ("timed_out", "deadline_exceeded")
    assert "2.5 s" in end.error.message
    assert end.error.details == {"deadline_ms": ACCEPTED_MS + 2_500}


@pytest.mark.parametrize("how", ["succeed", "fail"])
def test_a_stopped_run_ends_so_whatever_its_last_attempt_came_to(how: str) -> None:
    fold = Fold(task("0"))
    fold.cancel()
    assert only_end(getattr(fold, how)("0")).status == "cancelled"


ENDS: list[tuple[SessionEnded, dict[str, Any]]] = [
    (SessionEnded(status="succeeded", output={"a": None}), {"output": {"a": None}}),
    (SessionEnded(status="failed", error=error()), {"error": error()}),
]


@pytest.mark.parametrize(("ended", "said"), ENDS)
@pytest.mark.parametrize("reply", ["", "_INBOX.1"])
def test_what_is_stored_is_answered_and_not_what_was_proposed(ended: SessionEnded, said: Any, reply: str) -> None:
    fold = Fold(task("0"), reply=reply)
    fold.succeed("0", {"b": 1})
    result = RunResult(session="s1", status=ended.status, **said)
    assert fold.end(ended) == [Finish(result, reply, "application/json")]
