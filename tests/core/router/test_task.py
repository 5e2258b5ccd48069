"""What a worker is sent."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_bus.wire import StepFailed, StepSucceeded, Task
from dspex_router.core import Dispatch, RecordOutcome

from .building import DEADLINE_MS, POOL, Fold, only_end, task


def sent(commands: list[Any]) -> Task:
    """The attempt that is sent; besides it only the deadline's timer may be set."""
    (found,) = [command for command in commands if isinstance(command, Dispatch)]
    return found.task


def test_the_first_attempt_is_sent_with_all_it_needs() -> None:
    node = task("0", reads={"q": "question"}, options={"k": 0}, cache_ms=9, implementation="dspy", pool="dspy")
    fold = Fold(node, input={"question": "why", "other": 1})
    assert fold.opening[1:] == [
        Dispatch(
            "dspy",
            Task(
                session="s1",
                node="0",
                attempt=1,
                partition=7,
                handler="h",
                implementation="dspy",
                options={"k": 0},
                inputs={"q": "why"},
                timeout_ms=5_000,
                cache_ms=9,
                deadline_ms=DEADLINE_MS,
            ),
        )
    ]


@pytest.mark.parametrize("value", [False, 0, "", [], {}, None])
def test_a_falsy_field_is_there(value: Any) -> None:
    assert sent(Fold(task("0", reads={"q": "q"}), input={"q": value}).opening).inputs == {"q": value}


def test_optional_fields_are_left_out_where_they_are_absent() -> None:
    node = task("0", reads={"a": "a", "b": "b.0"}, optional=("a", "b"))
    assert sent(Fold(node, input={"b": []}).opening).inputs == {}
    assert sent(Fold(node, input={"a": None, "b": [1]}).opening).inputs == {"a": None, "b": 1}


def test_the_whole_context_and_what_is_renamed_into_it() -> None:
    node = task("0", reads={"body": "page.text"}, reads_all=True)
    assert sent(Fold(node, input={"page": {"text": "t"}, "n": 0}).opening).inputs == {
        "page": {"text": "t"},
        "n": 0,
        "body": "t",
    }


@pytest.mark.parametrize("path", ["question", "page.text"])
def test_a_missing_field_is_the_attempt_s_failure(path: str) -> None:
    """Recorded like any other, so that every replay sees it."""
    fold = Fold(task("0", reads={"q": path}), input={"page": {}})
    command = fold.opening[1]
    assert isinstance(command, RecordOutcome)
    assert isinstance(command.outcome, StepFailed)
    assert (command.pool, command.node, command.attempt) == (POOL, "0", 1)
    failure = command.outcome.error
    assert (failure.code, failure.retryable) == ("missing_field", False)
    assert failure.details == {"field": "q", "path": path, "known": ["page"], "step": "step 0", "node": "0"}
    assert f"(from {path!r})" in failure.message
    assert only_end(fold.outcome("0", command.outcome)).error.code == "missing_field"  # type: ignore[union-attr]


def test_tokens_are_said_where_the_run_or_the_step_asks_for_them() -> None:
    for node, run, streams in [(False, False, False), (True, False, True), (False, True, True)]:
        assert sent(Fold(task("0", stream=node), stream=run).opening).stream is streams


def test_a_conversation_is_the_run_s_thread_or_the_session_s_own() -> None:
    for remember, thread, tenant, key in [
        (False, "ada", "", ""),
        (True, "ada", "", "thread.ada"),
        (True, "ada", "acme", "tenant.acme.ada"),
        (True, "", "acme", "session.s1"),
    ]:
        assert sent(Fold(task("0", remember=remember), thread=thread, tenant=tenant).opening).thread == key


def test_a_step_with_an_affinity_is_at_home_where_the_last_one_of_its_pool_ran() -> None:
    steps = [
        task("0", affinity="strict"),
        task("1"),
        task("2", affinity="hint"),
        task("3", affinity="strict", pool="other"),
        task("4", affinity="strict"),
    ]
    fold = Fold(*steps)
    assert (sent(fold.opening).affinity, sent(fold.opening).home) == ("strict", "")
    following = sent(fold.outcome("0", StepSucceeded(outputs={}, worker="a")))
    assert (following.affinity, following.home) == (None, "")
    hinted = sent(fold.outcome("1", StepSucceeded(outputs={}, worker="b")))
    assert (hinted.affinity, hinted.home) == ("hint", "a")
    assert sent(fold.outcome("2", StepSucceeded(outputs={}, worker="c"))).home == ""
    assert sent(fold.outcome("3", StepSucceeded(outputs={}), pool="other")).home == "c"
