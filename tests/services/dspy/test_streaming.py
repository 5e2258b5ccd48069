"""Tokens of modules and of native predictors, on the same subjects and in the same words."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from dspy_system import System

import dspex
from dspex_bus.errors import RunFailed, SlowConsumer
from dspex_services.handlers import Handlers, Step
from dspex_services.native.pool import native_handlers
from dspex_services.native.predicting import Models

pytestmark = pytest.mark.anyio

CONTEXT = "A worker sends a heartbeat every 5 seconds. The lease lasts 10 seconds. Ada Lovelace designed the pool."
INPUTS = {"context": CONTEXT, "question": "How often does a worker send a heartbeat?"}
SIGNATURE = "context, question -> answer"
ANSWER = "A worker sends a heartbeat every 5 seconds."

tools = Handlers()


@tools.handler("weather")
async def weather(values: dict[str, Any], step: Step) -> dict[str, Any]:
    """The weather in a city."""
    return {"weather": f"rain in {values.get('city')}"}


def texts(said: list[dspex.TokenEvent]) -> dict[str, str]:
    """By field, of the last call that wrote it."""
    found: dict[str, tuple[int, str]] = {}
    for told in said:
        if isinstance(piece := told.message, dspex.TokenPiece):
            name = f"{piece.predictor}.{piece.field}" if piece.predictor else piece.field
            call, text = found.get(name, (piece.call, ""))
            found[name] = (piece.call, (text if call == piece.call else "") + piece.text)
    return {name: text for name, (_, text) in found.items()}


async def streamed(system: System, *steps: Any, inputs: dict[str, Any] = INPUTS) -> tuple[list[Any], dict[str, Any]]:
    """What was said of tokens, and the run's output."""
    said, output = [], None
    pipeline = dspex.pipeline(steps, name="streamed")
    async for item in system.client.stream(pipeline, inputs, tokens=True, timeout_s=30):
        if isinstance(item, dspex.TokenEvent):
            said.append(item)
        else:
            output = getattr(item.event, "output", None) or output
    for node in {told.node for told in said}:
        own = [told.message for told in said if told.node == node]
        assert [message.sequence for message in own] == list(range(len(own)))
        assert isinstance(own[0], dspex.TokensStarted)
        assert isinstance(own[-1], dspex.TokensEnded)
    assert output is not None
    return said, output


@pytest.mark.parametrize("adapter", ["chat", "json", "xml"])
async def test_a_module_in_every_adapter(system: System, adapter: str) -> None:
    said, output = await streamed(system, dspex.module("dspy.ChainOfThought", signature=SIGNATURE, adapter=adapter))
    assert texts(said) == output
    assert texts(said).keys() == {"reasoning", "answer"}


async def test_a_native_predictor_says_what_dspy_does(system: System, model_environment: dict[str, str]) -> None:
    await system.serve(native_handlers(Models(model_environment)), "native")
    native = dspex.native("chain_of_thought", signature=SIGNATURE, outputs={"answer": "first", "reasoning": "why"})
    said, _ = await streamed(system, native, dspex.module("dspy.ChainOfThought", signature=SIGNATURE))
    first, second = (texts([told for told in said if told.node == node]) for node in ("0", "1"))
    assert first == second
    assert first["answer"] == ANSWER


async def test_modules_in_threads_and_with_several_predictors(system: System) -> None:
    said, output = await streamed(
        system, dspex.module("dspy.MultiChainComparison", signature=SIGNATURE, m=2), inputs=INPUTS
    )
    assert texts(said)["answer"] == output["answer"]


async def test_examples_side_by_side(system: System) -> None:
    parallel = dspex.module("dspy.Parallel", signature=SIGNATURE, module="dspy.Predict", examples=[INPUTS, INPUTS])
    said, output = await streamed(system, parallel, inputs={})
    assert output["predictions"] == [{"answer": ANSWER}] * 2
    pieces = [told.message for told in said if isinstance(told.message, dspex.TokenPiece)]
    by_call = {piece.call: "" for piece in pieces}
    for piece in pieces:
        by_call[piece.call] += piece.text
    assert list(by_call.values()) == [ANSWER] * 2


async def test_an_agent_s_tools_are_told(system: System) -> None:
    await system.serve(tools, "tools")
    agent = dspex.module(
        "dspy.ReAct",
        signature="question -> answer",
        tools=[{"handler": "weather", "args": {"city": {"type": "string"}}}],
    )
    said, _ = await streamed(system, agent, inputs={"question": "What is the weather in Ghent?"})
    told = [message.text for event in said if isinstance(message := event.message, dspex.TokenStatus)]
    assert told == ["uses weather", "weather answered"]
    assert {"react.next_thought", "extract.predict.answer"} <= set(texts(said))


async def test_a_run_that_did_not_ask_says_nothing_unless_a_step_does(system: System) -> None:
    for stream in (False, True):
        pipeline = dspex.pipeline([dspex.module("dspy.Predict", signature=SIGNATURE, stream=stream)])
        handle = system.client.session(f"asked-{stream}")

        async def begin(pipeline: Any = pipeline, session: str = handle.id) -> None:
            await system.client.submit(pipeline, INPUTS, session=session)

        items = [item async for item in handle.follow(begin=begin)]
        assert any(isinstance(item, dspex.TokenEvent) for item in items) is stream


async def test_a_failure_ends_the_stream(system: System) -> None:
    pipeline = dspex.pipeline([dspex.module("dspy.Predict", signature=SIGNATURE, model="openai/m+400")])
    said = [
        item.message
        async for item in system.client.stream(pipeline, INPUTS, tokens=True)
        if isinstance(item, dspex.TokenEvent)
    ]
    assert isinstance(said[-1], dspex.TokensEnded)
    assert (said[-1].status, said[-1].code) == ("failed", "lm_bad_request")
    with pytest.raises(RunFailed):
        await system.client.run(pipeline, INPUTS)


async def test_who_takes_nothing_is_cut_off_and_the_run_goes_on(system: System) -> None:
    flood = Handlers()

    @flood.handler("flood")
    async def pour(values: dict[str, Any], step: Step) -> dict[str, Any]:
        for number in range(8_000):
            step.tell(f"field{number % 2}", "x")
            if number % 50 == 0:
                await asyncio.sleep(0.001)
        return {}

    await system.serve(flood, "flood")
    handle = system.client.session("flooded")

    async def begin() -> None:
        await system.client.submit(dspex.pipeline([dspex.native("flood")]), session=handle.id, stream=True)

    items = handle.follow(begin=begin)
    await anext(items)
    await handle.result(timeout_s=10)
    with pytest.raises(SlowConsumer):
        async for _ in items:
            pass
    assert (await handle.result(timeout_s=5)).status == "succeeded"
