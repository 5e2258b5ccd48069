"""Budgets of runs and of tenants, in native workers on a real server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from scripted_server import Answer, ScriptedServer, Seen, playing

from dspex_bus import MemoryBus, Message, subjects
from dspex_bus.streams import buckets
from dspex_bus.wire import Budget, CallReply, CallRequest, StepFailed, StepSucceeded, Usage, decode, encode
from dspex_services.handlers import Handlers, Step
from dspex_services.native.models import Models
from dspex_services.native.pool import native_handlers
from dspex_services.tenants import Standing, TenantStore

from ..rig import PATIENCE_S, Rig

pytestmark = pytest.mark.anyio

PRICED = "openai/priced: {price: {input: 1000.0, output: 10000.0}}"
"""A call of ten tokens in and two out costs 0.03."""
ASK = {"signature": "question -> answer"}
WHY = {"question": "why"}


def answering(_number: int, seen: Seen) -> Answer:
    """In the layout that was asked for; the question ``broken`` gets no layout at all."""
    said = "[[ ## answer ## ]]\nbecause\n\n[[ ## completed ## ]]"
    body = {
        "model": "served",
        "choices": [{"message": {"content": "no" if "broken" in json.dumps(seen.body) else said}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2},
    }
    return Answer([json.dumps(body).encode()])


@pytest.fixture
async def lm() -> AsyncIterator[ScriptedServer]:
    async with playing(answering) as server:
        yield server


@pytest.fixture
def handlers(lm: ScriptedServer, tmp_path: Any) -> Callable[[str], Handlers]:
    def made(model: str = "openai/priced") -> Handlers:
        table = tmp_path / "models.yaml"
        table.write_text(PRICED)
        return native_handlers(Models({"DSPEX_MODEL": model, "DSPEX_BASE_URL": lm.url, "DSPEX_MODELS": str(table)}))

    return made


async def failed(rig: Rig, handler: str, inputs: dict[str, Any], **task: Any) -> Any:
    outcome = await rig.run(handler, inputs, **task)
    assert isinstance(outcome, StepFailed), outcome
    return outcome


@pytest.mark.parametrize(
    ("budget", "used", "unit", "spent", "limit"),
    [
        (Budget(tokens=100), Usage(input_tokens=60, output_tokens=40), "tokens", 100, 100),
        (Budget(cost=0.5), Usage(cost=0.75), "cost", 0.75, 0.5),
        (Budget(cost=0, tokens=100), None, "cost", 0.0, 0),
        (Budget(tokens=0), None, "tokens", 0, 0),
    ],
)
async def test_a_spent_budget_refuses_the_call(
    rig: Rig, lm: ScriptedServer, handlers: Any, budget: Budget, used: Any, unit: str, spent: float, limit: float
) -> None:
    async with rig.worker(handlers()):
        outcome = await failed(rig, "predict", WHY, options=ASK, budget=budget, used=used)
    error = outcome.error
    assert (error.code, error.retryable) == ("budget_exceeded", False)
    assert error.details == {"scope": "run", "unit": unit, "spent": spent, "limit": limit}
    assert f"{limit:g}" in error.message
    assert lm.seen == []


async def test_what_the_attempt_itself_uses_counts_before_its_next_call(
    rig: Rig, lm: ScriptedServer, handlers: Any
) -> None:
    """A reply that does not fit is asked for once more: the second call finds the budget spent."""
    async with rig.worker(handlers()):
        outcome = await failed(rig, "predict", {"question": "broken"}, options=ASK, budget=Budget(tokens=12))
        assert outcome.error.code == "budget_exceeded"
        assert outcome.error.details["spent"] == 12
        assert outcome.usage.calls == 1
        assert len(lm.seen) == 1
        more = await failed(rig, "predict", {"question": "broken"}, options=ASK, budget=Budget(tokens=13))
    assert more.error.code == "reply_malformed"
    assert len(lm.seen) == 3


async def test_within_the_budget_nothing_changes(rig: Rig, handlers: Any) -> None:
    async with rig.worker(handlers()):
        outcome = await rig.run("predict", WHY, options=ASK, budget=Budget(cost=0.01, tokens=1), tenant="quiet")
    assert isinstance(outcome, StepSucceeded)
    assert outcome.usage == Usage(calls=1, input_tokens=10, output_tokens=2, model="served", cost=0.03)


async def test_a_cost_that_nobody_can_tell_is_refused(rig: Rig, lm: ScriptedServer, handlers: Any) -> None:
    async with rig.worker(handlers("openai/unpriced")):
        outcome = await failed(rig, "lm", {"prompt": "hello"}, budget=Budget(cost=1))
        assert (outcome.error.code, outcome.error.details) == ("price_unknown", {"model": "openai/unpriced"})
        assert lm.seen == []
        assert isinstance(await rig.run("lm", {"prompt": "hello"}, budget=Budget(tokens=1)), StepSucceeded)


async def test_what_the_cache_answers_needs_no_budget(rig: Rig, lm: ScriptedServer, handlers: Any) -> None:
    kept = {**ASK, "cache": 60}
    question = {"question": "kept for those without a budget?"}
    async with rig.worker(handlers()):
        assert isinstance(await rig.run("predict", question, options=kept), StepSucceeded)
        outcome = await rig.run("predict", question, options=kept, budget=Budget(tokens=0))
    assert isinstance(outcome, StepSucceeded)
    assert outcome.usage is not None
    assert (outcome.usage.calls, outcome.usage.saved_calls) == (0, 1)
    assert len(lm.seen) == 1


async def test_a_handler_s_own_calls_spend_the_same_budget(rig: Rig) -> None:
    mine = Handlers()

    @mine.handler("twice")
    async def twice(values: dict[str, Any], step: Step) -> dict[str, Any]:
        for _ in range(2):
            await step.check_budget()
            step.record_usage(Usage(calls=1, input_tokens=5))
        return values

    async with rig.worker(mine):
        outcome = await failed(rig, "twice", {}, budget=Budget(tokens=5))
        assert outcome.usage == Usage(calls=1, input_tokens=5)
        assert isinstance(await rig.run("twice", {}, budget=Budget(tokens=6)), StepSucceeded)


async def test_what_others_use_for_a_step_is_the_run_s_too(rig: Rig) -> None:
    """A handler's own call of another: the answer says what it used, and the request what is left."""
    asked: list[CallRequest] = []

    async def answer(message: Message) -> None:
        asked.append(decode(CallRequest, message.data, subject=message.subject))
        used = CallReply(outputs={}, implementation="native", handler="h", pool="p", usage=Usage(input_tokens=5))
        await rig.bus.publish(message.reply, encode(used))

    mine = Handlers()

    @mine.handler("asks")
    async def asks(values: dict[str, Any], step: Step) -> dict[str, Any]:
        await step.call(f"other-{rig.pool}")
        await step.call(f"other-{rig.pool}")
        await step.check_budget()
        return values

    subscription = await rig.bus.subscribe(subjects.call(f"other-{rig.pool}"), answer)
    async with rig.worker(mine):
        budget, used = Budget(tokens=20), Usage(input_tokens=10)
        outcome = await failed(rig, "asks", {}, budget=budget, used=used, tenant="acme")
    await subscription.close()
    assert (outcome.error.code, outcome.error.details["spent"]) == ("budget_exceeded", 20)
    assert outcome.usage == Usage(input_tokens=10)
    assert [(one.budget, one.used, one.tenant) for one in asked] == [
        (budget, used, "acme"),
        (budget, Usage(input_tokens=15), "acme"),
    ]


# --- tenants ---


@asynccontextmanager
async def store(now: list[float] | None = None) -> AsyncIterator[TenantStore]:
    async with MemoryBus() as bus:
        await bus.prepare([], buckets())
        yield TenantStore(bus, clock=lambda: (now or [0.0])[0])


async def counted(tenants: TenantStore, tenant: str, calls: int) -> Standing:
    """Once what it used has been counted."""
    with anyio.fail_after(PATIENCE_S):
        while True:
            standing = await tenants.get(tenant)
            if standing.used is not None and standing.used.calls >= calls:
                return standing
            await anyio.sleep(0.01)


async def test_a_tenant_s_use_is_counted_across_workers_and_stopped(
    rig: Rig, lm: ScriptedServer, handlers: Any
) -> None:
    tenants, name = TenantStore(rig.bus), f"t-{rig.pool}"
    await tenants.set_limit(name, Budget(tokens=240))
    async with rig.worker(handlers(), slots=4), rig.worker(handlers(), slots=4):
        async with anyio.create_task_group() as group:
            for number in range(19):
                group.start_soon(_succeeds, rig, {"question": f"why {number}"}, name)
        assert (await counted(tenants, name, 19)).used == Usage(
            calls=19, input_tokens=190, output_tokens=38, model="served", cost=pytest.approx(0.57)
        )
        await _succeeds(rig, {"question": "the last"}, name)
        await counted(tenants, name, 20)
        # A worker knows what the others used when it counts its own: each may take some more until then.
        codes = []
        with anyio.fail_after(PATIENCE_S):
            while "budget_exceeded" not in codes[-1:]:
                outcome = await rig.run("predict", {"question": "one more"}, options=ASK, tenant=name)
                codes.append("" if isinstance(outcome, StepSucceeded) else outcome.error.code)
    assert not outcome.error.retryable
    assert outcome.error.details["scope"] == "tenant"
    assert repr(name) in outcome.error.message
    assert len(lm.seen) <= 24


async def _succeeds(rig: Rig, inputs: dict[str, Any], tenant: str) -> None:
    assert isinstance(await rig.run("predict", inputs, options=ASK, tenant=tenant), StepSucceeded)


async def test_no_count_is_lost_where_many_count_at_once() -> None:
    async with store() as tenants, anyio.create_task_group() as group:
        for _ in range(40):
            group.start_soon(tenants.add, "acme", Usage(calls=1, input_tokens=2, cost=0.5))
        standing = await counted(tenants, "acme", 40)
    assert standing.used == Usage(calls=40, input_tokens=80, cost=20.0)


@pytest.mark.parametrize(("per", "later_s", "counts"), [("day", 86_400, 2), ("month", 86_400, 5), ("total", 1e8, 5)])
async def test_a_new_period_counts_from_nothing(per: Any, later_s: float, counts: int) -> None:
    now = [1_764_000_000.0]  # in the middle of a month
    async with store(now) as tenants:
        await tenants.set_limit("acme", Budget(tokens=1), per)
        await tenants.add("acme", Usage(calls=3))
        now[0] += later_s
        await tenants.add("acme", Usage(calls=2))
        assert (await tenants.get("acme")).used == Usage(calls=counts)
        await tenants.reset("acme")
        assert (await tenants.get("acme")).used is None
        await tenants.clear_limit("acme")
        assert await tenants.list() == []
