"""A run's budget in DSPy's modules: it ends them, whatever they do about errors."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from dspy_system import System

import dspex
from dspex_bus.errors import RunFailed
from dspex_bus.wire import Usage
from dspex_services.handlers import Handlers, Step

pytestmark = pytest.mark.anyio


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    text: str


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    passage: str


BOTH = {"context": "A worker sends a heartbeat every 5 seconds.", "question": "How often is there a heartbeat?"}
SIGNATURE = "context, question -> answer"


@pytest.mark.parametrize(
    ("module", "constants"),
    [
        ("dspy.ReAct", {"tools": []}),
        ("dspy.BestOfN", {"reward": {"judge": "Is it about heartbeats?"}, "n": 3, "threshold": 2.0}),
    ],
)
async def test_a_module_of_several_calls_is_ended_between_them(system: System, module: str, constants: Any) -> None:
    pipeline = dspex.pipeline([dspex.module(module, signature=SIGNATURE, **constants)])
    with pytest.raises(RunFailed) as refused:
        await system.client.run(pipeline, BOTH, timeout_s=30, budget=dspex.Budget(tokens=1))
    assert refused.value.code == "budget_exceeded"
    assert refused.value.details["spent"] > 1
    view = await system.client.session(refused.value.details["session"]).view()
    assert view.usage is not None
    assert view.usage.calls == 1


async def test_the_budget_goes_on_from_step_to_step(system: System) -> None:
    step = dspex.module("dspy.Predict", signature=SIGNATURE)
    pipeline = dspex.pipeline([step, step], budget=dspex.Budget(tokens=1))
    with pytest.raises(RunFailed) as refused:
        await system.client.run(pipeline, BOTH, timeout_s=30)
    assert (refused.value.code, refused.value.details["node"]) == ("budget_exceeded", "1")
    enough = await system.client.run(pipeline, BOTH, timeout_s=30, budget=dspex.Budget(tokens=100_000), tenant="acme")
    assert enough.usage is not None
    assert enough.usage.calls == 2


async def test_what_an_agent_s_tools_use_is_the_run_s_too(system: System) -> None:
    tools = Handlers()

    @tools.handler("lookup.priced")
    async def priced(asked: Asked, step: Step) -> Passage:
        """Look up how often a heartbeat is sent."""
        step.record_usage(Usage(calls=1, input_tokens=1_000_000))
        return Passage(passage="A worker sends a heartbeat every 5 seconds.")

    await system.serve(tools, "tools")
    pipeline = dspex.pipeline([dspex.module("dspy.ReAct", signature="question -> answer", tools=["lookup.priced"])])
    inputs = {"question": BOTH["question"]}
    with pytest.raises(RunFailed) as refused:
        await system.client.run(pipeline, inputs, timeout_s=30, budget=dspex.Budget(tokens=1_000_000))
    assert (refused.value.code, refused.value.details["spent"] > 1_000_000) == ("budget_exceeded", True)


async def test_calls_side_by_side_go_over_the_budget_by_one_at_most(system: System) -> None:
    step = dspex.module("dspy.Predict", signature=SIGNATURE)
    one = await system.client.run(dspex.pipeline([step]), BOTH, timeout_s=30)
    assert one.usage is not None
    each = one.usage.input_tokens + one.usage.output_tokens
    pipeline = dspex.pipeline([dspex.map("questions", [step], item="question", limit=12, on_error="collect")])
    inputs = {"context": BOTH["context"], "questions": [f"How often is there a heartbeat {n}?" for n in range(12)]}
    ended = await system.client.run(pipeline, inputs, timeout_s=30, budget=dspex.Budget(tokens=4 * each))
    assert ended.usage is not None
    assert 3 <= ended.usage.calls <= 6
