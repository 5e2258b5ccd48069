"""When a failed attempt is followed by another."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_bus.wire import RetryPolicy, StepCancelled, StepFailed, StepLost, StepOutcome, StepSucceeded, StepTimedOut
from dspex_router.core.retry import delay_ms

from .building import error

PLAIN = RetryPolicy(attempts=4, initial_s=1, factor=2, max_s=3, jitter=0)
FAILED = StepFailed(error=error(retryable=True))


def delay(policy: RetryPolicy, outcome: StepOutcome = FAILED, attempt: int = 1, node: str = "0") -> int | None:
    return delay_ms(policy, outcome, session="s1", node=node, attempt=attempt)


@pytest.mark.parametrize(("attempt", "after_ms"), [(1, 1_000), (2, 2_000), (3, 3_000), (4, None), (5, None)])
def test_delays_grow_up_to_the_longest_and_end(attempt: int, after_ms: int | None) -> None:
    assert delay(PLAIN, attempt=attempt) == after_ms


OUTCOMES: list[tuple[StepOutcome, bool]] = [
    (FAILED, True),
    (StepTimedOut(error=error("step_timed_out", retryable=True)), True),
    (StepFailed(error=error(retryable=False)), False),
    (StepTimedOut(error=error("step_timed_out", retryable=False)), False),
    (StepLost(error=error("worker_lost", retryable=True)), False),
    (StepCancelled(), False),
    (StepSucceeded(outputs={}), False),
]


@pytest.mark.parametrize(("outcome", "again"), OUTCOMES, ids=[str(type(outcome).__name__) for outcome, _ in OUTCOMES])
def test_which_outcomes_are_tried_again(outcome: StepOutcome, again: bool) -> None:
    assert (delay(PLAIN, outcome) is not None) is again


@pytest.mark.parametrize(
    ("codes", "code", "retryable", "again"),
    [(("busy",), "busy", False, True), (("busy",), "broken", True, False), ((), "broken", True, False)],
)
def test_codes_decide_alone_where_there_are_any(codes: Any, code: str, retryable: bool, again: bool) -> None:
    outcome = StepFailed(error=error(code, retryable=retryable))
    assert (delay(RetryPolicy(codes=codes), outcome) is not None) is again


@pytest.mark.parametrize(("asked_ms", "after_ms"), [(0, 1_000), (999, 1_000), (1_001, 1_001), (60_000, 60_000)])
def test_a_callee_may_ask_for_longer_but_not_for_less(asked_ms: int, after_ms: int) -> None:
    assert delay(PLAIN, StepFailed(error=error(retryable=True), retry_after_ms=asked_ms)) == after_ms


def test_jitter_shortens_and_spreads() -> None:
    policy = RetryPolicy(attempts=100, initial_s=1, factor=1, max_s=1, jitter=0.5)
    delays = [delay(policy, node=str(node)) for node in range(200)]
    assert all(found is not None and 500 <= found <= 1_000 for found in delays)
    assert len(set(delays)) > 100


def test_jitter_is_the_same_at_every_replay() -> None:
    """Pinned: another router version must arm the same timers for a session that runs."""
    policy = RetryPolicy()
    assert [delay(policy, attempt=attempt) for attempt in (1, 2)] == [175, 398]


def test_no_delay_at_all() -> None:
    assert delay(RetryPolicy(initial_s=0)) == 0


def test_the_largest_policy_has_a_delay() -> None:
    policy = RetryPolicy(attempts=100, initial_s=86_400, factor=100, max_s=86_400, jitter=1)
    assert delay(policy, attempt=99) is not None
