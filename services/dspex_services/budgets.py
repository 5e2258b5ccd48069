"""Whether there is anything left for another LM call, and for those in flight beside it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from dspex_bus.wire import Budget, Usage

from .errors import BudgetExceeded, StepError

_RUNS = 4096


class Amount(NamedTuple):
    """Of what budgets limit."""

    tokens: int = 0
    cost: float = 0.0

    def plus(self, other: Amount) -> Amount:
        return Amount(self.tokens + other.tokens, self.cost + other.cost)

    def less(self, other: Amount) -> Amount:
        """None of either is less than nothing, and what is left of a sum of costs may not be quite nothing."""
        cost = self.cost - other.cost
        return Amount(max(0, self.tokens - other.tokens), cost if cost > 1e-12 else 0.0)

    def within(self, budget: Budget) -> bool:
        tokens_fit = budget.tokens is None or self.tokens <= budget.tokens
        return tokens_fit and (budget.cost is None or self.cost <= budget.cost)


NOTHING = Amount()


def amount(usage: Usage | None) -> Amount:
    return NOTHING if usage is None else Amount(usage.input_tokens + usage.output_tokens, usage.cost or 0.0)


def check(budget: Budget, spent: Amount, who: str, *, scope: str, model: str, priced: bool) -> None:
    """Raises BudgetExceeded where the budget is spent, and StepError ``price_unknown`` where nothing could tell."""
    if budget.cost is not None:
        if not priced:
            raise StepError(
                f"{who} has a budget of {budget.cost:g}, and {model} has no price: set one in the operator's table of "
                "models (DSPEX_MODELS), or limit tokens instead",
                code="price_unknown",
                details={"model": model},
            )
        _compare(who, scope, "cost", spent.cost, budget.cost)
    if budget.tokens is not None:
        _compare(who, scope, "tokens", spent.tokens, budget.tokens)


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


class Ledger:
    """What one worker knows of a run's spending: at least ``spent``, and what its own calls in flight may add to it.

    A call that may not fit beside those in flight waits for one of them to end. Where none is in flight it goes,
    however little is left: an estimate refuses nothing that would have stayed within the budget."""

    def __init__(self) -> None:
        self.spent = NOTHING
        self.reserved = NOTHING
        self.going = 0
        self._ended: asyncio.Event | None = None

    def know(self, spent: Amount) -> None:
        """Somebody knows that so much has been spent, of which this ledger may know some."""
        self.spent = Amount(max(self.spent.tokens, spent.tokens), max(self.spent.cost, spent.cost))

    def pay(self, spent: Amount) -> None:
        """So much more."""
        self.spent = self.spent.plus(spent)

    async def enter(
        self, budget: Budget, expected: Callable[[], Amount], who: str, *, scope: str, model: str, priced: bool
    ) -> Amount:
        """Set ``expected`` aside, once it fits: so much it is now. Raises what ``check`` does. Call ``leave`` with what
        it has returned."""
        while True:
            check(budget, self.spent, who, scope=scope, model=model, priced=priced)
            wanted = expected()
            if not self.going or self.spent.plus(self.reserved).plus(wanted).within(budget):
                break
            self._ended = self._ended or asyncio.Event()
            await self._ended.wait()
        self.reserved = self.reserved.plus(wanted)
        self.going += 1
        return wanted

    def leave(self, held: Amount) -> None:
        self.going -= 1
        self.reserved = self.reserved.less(held) if self.going else NOTHING
        if self._ended is not None:
            self._ended.set()
            self._ended = None


class Ledgers:
    """A worker's, of the runs it has seen last."""

    def __init__(self, most: int = _RUNS) -> None:
        self._most = most
        self._known: OrderedDict[str, Ledger] = OrderedDict()

    def of(self, session: str) -> Ledger:
        found = self._known.setdefault(session, Ledger())
        self._known.move_to_end(session)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return found
