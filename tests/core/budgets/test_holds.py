"""What calls in flight set aside of a budget: a run's in one worker, a tenant's over all of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dspex_bus.wire import Budget, Usage
from dspex_services.budgets import NOTHING, Amount, Ledger, Ledgers, amount
from dspex_services.errors import BudgetExceeded
from dspex_services.lm.expecting import Expecting
from dspex_services.lm.types import LMConfig, LMRequest
from dspex_services.lm.types import Usage as Used
from dspex_services.tenants.holds import Ask, covers, hold

TEN = Amount(10, 0.0)
LIMIT = Budget(tokens=100)
HOW: Any = {"who": "the run", "scope": "run", "model": "m", "priced": True}


@pytest.mark.parametrize(
    ("used", "others", "ask", "held"),
    [
        # Nothing is asked for, and nothing held.
        (0, [], Ask(), 0),
        # What is in flight stays set aside, whatever has come meanwhile.
        (95, [], Ask(Amount(30), 3), 30),
        (200, [], Ask(Amount(30), 3), 30),
        # Where plenty is left, the next calls need not ask.
        (0, [], Ask(waiting=(TEN,)), 20),
        (0, [], Ask(TEN, 1), 20),
        (30, [], Ask(waiting=(TEN,)), 10),
        # In their order, as far as they fit.
        (50, [], Ask(waiting=(TEN, TEN, TEN)), 30),
        (50, [], Ask(TEN, 1, (TEN,) * 9), 50),
        (50, [Amount(20)], Ask(waiting=(TEN,) * 9), 30),
        (50, [], Ask(waiting=(TEN, Amount(60), TEN)), 10),
        # One alone goes whatever it needs, and no other beside it, here or elsewhere.
        (95, [], Ask(waiting=(TEN, TEN)), 10),
        (95, [], Ask(TEN, 1, (TEN,)), 10),
        (95, [Amount(1)], Ask(waiting=(TEN,)), 0),
    ],
)
def test_what_a_worker_may_hold(used: int, others: list[Amount], ask: Ask, held: int) -> None:
    assert hold(LIMIT, Amount(used), others, ask) == Amount(held)


def test_only_what_is_limited_counts() -> None:
    assert hold(Budget(cost=1.0), Amount(10**9, 0.5), [], Ask(waiting=(Amount(10**9, 0.25),))) == Amount(10**9, 0.25)
    assert covers(Budget(cost=1.0), Amount(0, 0.3), Amount(500, 0.1 + 0.2))
    assert not covers(Budget(tokens=1), Amount(4, 1.0), Amount(5, 0.0))


def test_amounts_never_fall_below_nothing() -> None:
    assert Amount(5, 0.1 + 0.2).less(Amount(7, 0.3)) == NOTHING
    assert amount(None) == NOTHING
    assert amount(Usage(input_tokens=1, output_tokens=2, cost=0.5)) == Amount(3, 0.5)


async def _soon(task: asyncio.Task[Amount]) -> bool:
    """Whether it is done once everything ready has run."""
    for _ in range(5):
        await asyncio.sleep(0)
    return task.done()


@pytest.mark.anyio
async def test_calls_that_fit_go_at_once_and_others_wait_for_them() -> None:
    ledger = Ledger()
    ledger.know(Amount(75))
    await ledger.enter(LIMIT, lambda: TEN, **HOW)
    await ledger.enter(LIMIT, lambda: TEN, **HOW)
    third = asyncio.create_task(ledger.enter(LIMIT, lambda: TEN, **HOW))
    assert not await _soon(third)
    ledger.pay(Amount(4))
    ledger.leave(TEN)  # 79 are spent and 10 set aside
    assert await _soon(third)
    assert (ledger.spent, ledger.reserved, ledger.going) == (Amount(79), Amount(20), 2)


@pytest.mark.anyio
async def test_one_that_waits_is_refused_when_the_others_have_spent_it_all() -> None:
    ledger = Ledger()
    await ledger.enter(LIMIT, lambda: Amount(500), **HOW)
    waiting = asyncio.create_task(ledger.enter(LIMIT, lambda: TEN, **HOW))
    assert not await _soon(waiting)
    ledger.pay(Amount(130))
    ledger.leave(Amount(500))
    with pytest.raises(BudgetExceeded) as refused:
        await waiting
    assert refused.value.details == {"scope": "run", "unit": "tokens", "spent": 130, "limit": 100}
    assert (ledger.reserved, ledger.going) == (NOTHING, 0)


@pytest.mark.anyio
async def test_one_that_gives_up_waiting_leaves_nothing_behind() -> None:
    ledger = Ledger()
    await ledger.enter(LIMIT, lambda: Amount(100), **HOW)
    waiting = asyncio.create_task(ledger.enter(LIMIT, lambda: TEN, **HOW))
    assert not await _soon(waiting)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    ledger.leave(Amount(100))
    assert (ledger.reserved, ledger.going) == (NOTHING, 0)
    await ledger.enter(LIMIT, lambda: Amount(1000), **HOW)  # alone


def test_what_is_known_twice_counts_once() -> None:
    ledger = Ledger()
    ledger.pay(TEN)
    ledger.know(TEN)
    ledger.know(Amount(4, 0.5))
    assert ledger.spent == Amount(10, 0.5)


def test_ledgers_of_runs_long_past_are_forgotten() -> None:
    ledgers = Ledgers(most=2)
    first = ledgers.of("a")
    ledgers.of("b")
    assert ledgers.of("a") is first
    ledgers.of("c")
    assert ledgers.of("a") is first
    assert ledgers.of("b").spent == NOTHING


def test_what_is_expected_follows_what_came() -> None:
    expecting = Expecting()
    config = LMConfig(model="openai/m")
    asked = LMRequest(messages=[{"role": "user", "content": "x" * 1000}])
    first = expecting.of(config, asked)()
    assert 250 <= first.input_tokens <= 275
    assert first.output_tokens == 1024
    assert expecting.of(config, LMRequest(messages=[], max_tokens=7))().output_tokens == 7
    for output in (50, 200, 50):
        expecting.learn(1000, Used(input_tokens=500, output_tokens=output))
    then = expecting.of(config, asked)()
    assert 500 <= then.input_tokens <= 540
    assert then.output_tokens == 185
    assert expecting.of(config, LMRequest(messages=[], max_tokens=7))().output_tokens == 7
    assert expecting.of(LMConfig(model="openai/m", max_tokens=90), asked)().output_tokens == 90
