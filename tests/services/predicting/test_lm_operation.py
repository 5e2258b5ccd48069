"""The operation ``lm``: a direct call, without a signature."""

from __future__ import annotations

import json
from typing import Any

import pytest
from scripted_server import Answer, Seen, playing

from dspex_bus.wire import StepFailed, StepSucceeded
from dspex_services.native.models import Models
from dspex_services.native.pool import native_handlers

from ..rig import Rig

pytestmark = pytest.mark.anyio

TOOL = {"name": "weather", "description": "Of a city.", "parameters": {"type": "object", "properties": {}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Turin"}'}}


def answering(_number: int, seen: Seen) -> Answer:
    message: dict[str, Any] = {"content": "Hello."}
    if "tools" in seen.body:
        message = {"content": None, "tool_calls": [CALL, {**CALL, "id": "c2", "function": {"name": "weather"}}]}
        message["tool_calls"][1]["function"]["arguments"] = "Turin"
    usage = {"prompt_tokens": 7, "completion_tokens": 1}
    return Answer([json.dumps({"model": "served", "choices": [{"message": message}], "usage": usage}).encode()])


async def test_a_prompt_messages_and_everything_else_reach_the_model(rig: Rig) -> None:
    async with playing(answering) as lm:
        models = Models({"DSPEX_MODEL": "openai/usual", "DSPEX_BASE_URL": lm.url})
        async with rig.worker(native_handlers(models)):
            first = await rig.run("lm", {"prompt": "Hi."}, options={"system": "Be brief.", "temperature": 0})
            assert isinstance(first, StepSucceeded)
            assert first.outputs == {
                "text": "Hello.",
                "message": {"role": "assistant", "content": "Hello."},
                "tool_calls": [],
                "finish_reason": "stop",
                "reasoning": "",
                "usage": {"calls": 1, "input_tokens": 7, "output_tokens": 1, "model": "served"},
            }
            assert first.usage is not None
            assert first.usage.calls == 1
            messages = [{"role": "user", "content": "Hi."}, first.outputs["message"]]
            schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
            more = {"model": "openai/other", "response_schema": schema, "stop": ["x"], "max_tokens": 5, "top_p": 0.5}
            await rig.run("lm", {"messages": messages, "prompt": "And now?"}, options=more)
    assert lm.seen[0].body == {
        "model": "usual",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi."}],
        "temperature": 0,
    }
    assert lm.seen[1].body["messages"] == [*messages, {"role": "user", "content": "And now?"}]
    assert lm.seen[1].body["response_format"]["json_schema"]["schema"] == schema
    told = {name: lm.seen[1].body[name] for name in ("model", "stop", "max_tokens", "top_p")}
    assert told == {"model": "other", "stop": ["x"], "max_tokens": 5, "top_p": 0.5}


async def test_tool_calls_come_back_as_they_were_meant(rig: Rig) -> None:
    async with playing(answering) as lm:
        models = Models({"DSPEX_MODEL": "openai/usual", "DSPEX_BASE_URL": lm.url})
        async with rig.worker(native_handlers(models)):
            outcome = await rig.run("lm", {"prompt": "?"}, options={"tools": [TOOL], "tool_choice": "required"})
    assert outcome.outputs["finish_reason"] == "tool_calls"
    assert outcome.outputs["tool_calls"] == [
        {"id": "c1", "name": "weather", "arguments": {"city": "Turin"}},
        {"id": "c2", "name": "weather", "arguments": "Turin"},
    ]
    assert [call["id"] for call in outcome.outputs["message"]["tool_calls"]] == ["c1", "c2"]
    assert lm.seen[0].body["tool_choice"] == "required"
    assert lm.seen[0].body["tools"][0]["function"]["name"] == "weather"


@pytest.mark.parametrize(
    ("inputs", "code", "said"),
    [
        ({}, "missing_field", "prompt"),
        ({"messages": [{"content": "no role"}]}, "invalid_input", "messages[0]"),
        ({"messages": [{"role": "narrator", "content": ""}]}, "invalid_input", "narrator"),
        ({"prompt": 1}, "invalid_input", "prompt"),
        ({"prompt": "hello", "max_tokens": 0}, "invalid_input", "max_tokens"),
    ],
)
async def test_what_is_no_call_is_refused_without_one(rig: Rig, inputs: dict[str, Any], code: str, said: str) -> None:
    async with playing(answering) as lm:
        models = Models({"DSPEX_MODEL": "openai/usual", "DSPEX_BASE_URL": lm.url})
        async with rig.worker(native_handlers(models)):
            outcome = await rig.run("lm", inputs)
    assert isinstance(outcome, StepFailed)
    assert (outcome.error.code, outcome.error.retryable) == (code, False)
    assert said in outcome.error.message
    assert lm.seen == []
