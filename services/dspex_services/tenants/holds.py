"""How much of what a tenant has left a worker may set aside for its calls. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from dspex_bus.wire import Budget

from ..budgets import NOTHING, Amount

_PLENTY = 8
"""Where so many times what is asked for is left, twice as much is set aside, and the next calls need not ask."""


class Ask(NamedTuple):
    """A worker's: what its calls in flight may use, how many they are, and what each that waits is expected to, in
    their order."""

    reserved: Amount = NOTHING
    going: int = 0
    waiting: tuple[Amount, ...] = ()


def hold(budget: Budget, used: Amount, others: Iterable[Amount], ask: Ask) -> Amount:
    """What the worker is to hold now. A call that does not fit beside those in flight, here or elsewhere, is left
    waiting; where there are none, the first is let in whatever it needs."""
    held = list(others)
    taken = used
    for one in held:
        taken = taken.plus(one)
    whole = ask.reserved
    for fits, waiting in enumerate(ask.waiting):
        more = whole.plus(waiting)
        alone = not ask.going and not held and not fits
        if not alone and not taken.plus(more).within(budget):
            return whole
        whole = more
    if taken.plus(Amount(whole.tokens * _PLENTY, whole.cost * _PLENTY)).within(budget):
        return whole.plus(whole)
    return whole


def covers(budget: Budget, held: Amount, wanted: Amount) -> bool:
    """Whether what is held is enough, of what the budget limits."""
    return wanted.within(
        Budget(
            tokens=None if budget.tokens is None else held.tokens,
            cost=None if budget.cost is None else held.cost + 1e-12,
        )
    )
