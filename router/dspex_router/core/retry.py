"""When a failed attempt is followed by another."""

from __future__ import annotations

import zlib

from dspex_bus.wire import RetryPolicy, StepFailed, StepOutcome, StepTimedOut


def delay_ms(policy: RetryPolicy, outcome: StepOutcome, *, session: str, node: str, attempt: int) -> int | None:
    """Milliseconds from ``outcome`` of ``attempt`` to the next one; None where there is none.

    A lost attempt is not tried again: it took its workers with it. A callee's ``retry_after_ms`` is kept to, even where
    it is longer than the policy's longest delay.
    """
    if not isinstance(outcome, StepFailed | StepTimedOut) or attempt >= policy.attempts:
        return None
    error = outcome.error
    if not (error.retryable if policy.codes is None else error.code in policy.codes):
        return None
    asked = outcome.retry_after_ms if isinstance(outcome, StepFailed) else 0
    return max(asked, _back_off_ms(policy, session, node, attempt))


def _back_off_ms(policy: RetryPolicy, session: str, node: str, attempt: int) -> int:
    """Jitter only shortens, so that ``max_s`` holds and attempts that failed together still spread out."""
    longest = min(policy.initial_s * policy.factor ** (attempt - 1), policy.max_s)
    chance = zlib.crc32(f"{session}.{node}.{attempt}".encode()) / 2**32
    return round(1000 * longest * (1 - policy.jitter * chance))
