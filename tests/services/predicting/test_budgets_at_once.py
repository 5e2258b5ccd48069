"""Budgets where many calls are in flight at once: in one worker, and in several."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from scripted_server import Answer, ScriptedServer, Seen, playing

from dspex_bus.wire import Budget, StepSucceeded, TenantUsage, Usage, decode
from dspex_services.handlers import Handlers, Step
from dspex_services.native.models import Models
from dspex_services.native.pool import native_handlers
from dspex_services.tenants import TenantStore

from ..rig import PATIENCE_S, Rig

pytestmark = pytest.mark.anyio

ASK = {"signature": "question -> answer", "max_tokens": 2}
EACH = 12
"""Tokens of a call."""
SLOTS = 40


def answering(_number: int, _seen: Seen) -> Answer:
    body = {
        "model": "served",
        "choices": [{"message": {"content": "[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]"}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2},
    }
    return Answer([0.03, json.dumps(body).encode()])


@pytest.fixture
async def lm() -> AsyncIterator[ScriptedServer]:
    async with playing(answering) as server:
        yield server


def native(lm: ScriptedServer) -> Handlers:
    return native_handlers(Models({"DSPEX_MODEL": "openai/m", "DSPEX_BASE_URL": lm.url}))


async def all_at_once(rig: Rig, count: int, **task: Any) -> Counter[str]:
    codes: Counter[str] = Counter()

    async def one(number: int) -> None:
        options = {"options": ASK, "node": f"{number}", **task}
        outcome = await rig.run("predict", {"question": f"is it {number:03}?"}, **options)
        codes["" if isinstance(outcome, StepSucceeded) else outcome.error.code] += 1

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as group:
            for number in range(count):
                group.start_soon(one, number)
    return codes


async def test_a_run_s_calls_side_by_side_go_over_its_budget_by_one_at_most(rig: Rig, lm: ScriptedServer) -> None:
    session = f"side-{rig.pool}"
    async with rig.worker(native(lm), slots=SLOTS):
        # What calls use is learnt from the first; all of its outcome is not yet known to those sent at once.
        codes = await all_at_once(rig, SLOTS, session=session, budget=Budget(tokens=15 * EACH))
    assert set(codes) == {"", "budget_exceeded"}
    assert 15 <= len(lm.seen) <= 17
    assert lm.most > 1


async def test_a_run_that_stays_within_its_budget_is_as_fast_as_without_one(rig: Rig, lm: ScriptedServer) -> None:
    async with rig.worker(native(lm), slots=SLOTS):
        await all_at_once(rig, 1, session=f"one-{rig.pool}", budget=Budget(tokens=100_000))
        codes = await all_at_once(rig, SLOTS, session=f"fast-{rig.pool}", budget=Budget(tokens=2 * SLOTS * EACH))
    assert codes == {"": SLOTS}
    assert lm.most > SLOTS / 4


async def test_even_a_budget_that_is_used_up_to_the_last_token_refuses_nothing(rig: Rig, lm: ScriptedServer) -> None:
    async with rig.worker(native(lm), slots=SLOTS):
        codes = await all_at_once(rig, 10, session=f"last-{rig.pool}", budget=Budget(tokens=10 * EACH))
    assert codes == {"": 10}


async def test_a_tenant_s_calls_in_several_workers_go_over_its_limit_by_one_at_most(
    rig: Rig, lm: ScriptedServer
) -> None:
    tenants, name = TenantStore(rig.bus), f"t-{rig.pool}"
    await tenants.set_limit(name, Budget(tokens=20 * EACH))
    async with rig.worker(native(lm), slots=SLOTS), rig.worker(native(lm), slots=SLOTS):
        codes = await all_at_once(rig, 2 * SLOTS, tenant=name)
    assert set(codes) == {"", "budget_exceeded"}
    assert 20 <= len(lm.seen) <= 22
    standing = await tenants.get(name)
    assert standing.used is not None
    assert standing.used.calls == len(lm.seen)
    entry = await rig.bus.key_value("dspex_tenants").get(f"used.{name}")
    assert entry is not None
    assert decode(TenantUsage, entry.value, subject="").held == {}


async def test_what_a_worker_that_is_gone_held_is_free_again_after_a_while(rig: Rig) -> None:
    now = [1_764_000_000.0]
    tenants = TenantStore(rig.bus, clock=lambda: now[0])
    name = f"gone-{rig.pool}"
    await tenants.set_limit(name, Budget(tokens=100))
    from dspex_services.budgets import Amount
    from dspex_services.tenants.holds import Ask

    async def asked(who: str) -> int:
        return (await tenants.turn(name, None, who, lambda: Ask(waiting=(Amount(80),))))[1].tokens

    assert (await asked("gone"), await asked("alive")) == (80, 0)
    now[0] += 15
    assert await asked("alive") == 0
    now[0] += 6
    assert await asked("alive") == 80


async def test_a_handler_s_own_calls_are_reserved_and_settled(rig: Rig) -> None:
    mine = Handlers()
    most, going = 0, 0

    @mine.handler("own")
    async def own(values: dict[str, Any], step: Step) -> dict[str, Any]:
        nonlocal most, going
        async with step.reserve(Usage(input_tokens=40)):
            going += 1
            most = max(most, going)
            await anyio.sleep(0.01)
            step.record_usage(Usage(calls=1, input_tokens=40))
            going -= 1
        return values

    codes: list[str] = []

    async def one(number: int) -> None:
        outcome = await rig.run("own", {}, session=f"own-{rig.pool}", node=f"{number}", budget=Budget(tokens=100))
        codes.append("" if isinstance(outcome, StepSucceeded) else outcome.error.code)

    async with rig.worker(mine, slots=SLOTS), anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(one, number)
        with anyio.fail_after(PATIENCE_S):
            while len(codes) < 8:
                await anyio.sleep(0.01)
    assert most == 2
    assert Counter(codes) == {"": 3, "budget_exceeded": 5}
