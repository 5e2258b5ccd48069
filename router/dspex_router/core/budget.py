"""What a session's LM calls have used, and what is left of its budget."""

from __future__ import annotations

from dspex_bus.wire import Budget, StepFailed, StepOutcome, StepSucceeded, StepTimedOut, Usage

from .state import Session

_USES = (StepSucceeded, StepFailed, StepTimedOut)


def count(session: Session, outcome: StepOutcome) -> None:
    if isinstance(outcome, _USES) and outcome.usage is not None:
        session.usage = outcome.usage if session.usage is None else session.usage.plus(outcome.usage)


def left(session: Session) -> Budget | None:
    """None where the session has no budget."""
    budget, used = session.accepted.budget, session.usage or Usage()
    if budget is None:
        return None
    return Budget(
        cost=None if budget.cost is None else max(0.0, budget.cost - (used.cost or 0.0)),
        tokens=None if budget.tokens is None else max(0, budget.tokens - used.input_tokens - used.output_tokens),
    )
