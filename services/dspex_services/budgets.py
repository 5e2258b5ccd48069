"""Whether there is anything left for another LM call."""

from __future__ import annotations

from dspex_bus.wire import Budget, Usage

from .errors import BudgetExceeded, StepError


def check(budget: Budget, used: Usage | None, who: str, *, scope: str, model: str, priced: bool) -> None:
    """Raises BudgetExceeded where the budget is spent, and StepError ``price_unknown`` where nothing could tell."""
    used = used or Usage()
    if budget.cost is not None:
        if not priced:
            raise StepError(
                f"{who} has a budget of {budget.cost:g}, and {model} has no price: set one in the operator's table of "
                "models (DSPEX_MODELS), or limit tokens instead",
                code="price_unknown",
                details={"model": model},
            )
        _compare(who, scope, "cost", used.cost or 0.0, budget.cost)
    if budget.tokens is not None:
        _compare(who, scope, "tokens", used.input_tokens + used.output_tokens, budget.tokens)


def _compare(who: str, scope: str, unit: str, spent: float, limit: float) -> None:
    if spent < limit:
        return
    said = f"{spent:,} tokens of the {limit:,}" if unit == "tokens" else f"{spent:.6g} of the {limit:g}"
    raise BudgetExceeded(
        f"{who} has used {said} that its budget allows",
        details={"scope": scope, "unit": unit, "spent": spent, "limit": limit},
    )


def together(one: Usage | None, other: Usage | None) -> Usage | None:
    return other if one is None else one.plus(other)
