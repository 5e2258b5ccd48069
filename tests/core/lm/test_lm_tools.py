"""Tool calls, thinking and images in both protocols: the request's bytes, and replies as the providers send them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dspex_services.lm import LMBadRequest, LMConfig, LMRequest, Tool, ToolCall, anthropic, openai
from dspex_services.lm.media import excess

OPENAI = LMConfig(model="openai/m", base_url="http://localhost:1/v1")
ANTHROPIC = LMConfig(model="anthropic/m", base_url="http://localhost:1")
WEATHER = Tool(
    name="get_weather",
    description="The weather in a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
ASK = [{"role": "user", "content": "Weather in Paris and Oslo?"}]
AFTER_CALLS: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    *ASK,
    {
        "role": "assistant",
        "content": "Let me look.",
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}},
            {"id": "b", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}},
        ],
    },
    {"role": "tool", "tool_call_id": "a", "content": "18 degrees"},
    {"role": "tool", "tool_call_id": "b", "content": "3 degrees"},
]

OPENAI_CALLS = b"""{"id":"chatcmpl-BxZ","object":"chat.completion","created":1752000000,
"model":"gpt-4o-mini-2024-07-18",
"choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[
{"id":"call_9pw1","type":"function","function":{"name":"get_weather","arguments":"{\\"city\\": \\"Paris\\"}"}},
{"id":"call_8fd2","type":"function","function":{"name":"get_weather","arguments":"{\\"city\\": \\"Oslo\\"}"}}],
"refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"tool_calls"}],
"usage":{"prompt_tokens":1058,"completion_tokens":46,"total_tokens":1104,
"prompt_tokens_details":{"cached_tokens":1024,"audio_tokens":0},
"completion_tokens_details":{"reasoning_tokens":12,"audio_tokens":0}},"service_tier":"default"}"""
ANTHROPIC_CALLS = b"""{"id":"msg_01Aq","type":"message","role":"assistant","model":"claude-haiku-4-5-20251001",
"content":[{"type":"thinking","thinking":"Two cities.","signature":"Eq"},{"type":"text","text":"I will look."},
{"type":"tool_use","id":"toolu_01A0","name":"get_weather","input":{"city":"Paris"}},
{"type":"tool_use","id":"toolu_01B0","name":"get_weather","input":{"city":"Oslo"}}],
"stop_reason":"tool_use","stop_sequence":null,
"usage":{"input_tokens":20,"cache_creation_input_tokens":300,"cache_read_input_tokens":1000,"output_tokens":89}}"""


def body_of(module: Any, config: LMConfig, request: LMRequest) -> dict[str, Any]:
    return dict(json.loads(module.encode(config, request, None).body))


def test_openai_is_told_of_tools() -> None:
    body = body_of(openai, OPENAI, LMRequest(messages=ASK, tools=[WEATHER], parallel_tool_calls=False))
    assert body["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "The weather in a city.",
                "parameters": WEATHER.parameters,
            },
        }
    ]
    assert "tool_choice" not in body
    assert body["parallel_tool_calls"] is False


@pytest.mark.parametrize(
    ("choice", "theirs"),
    [
        ("none", "none"),
        ("required", "required"),
        ("get_weather", {"type": "function", "function": {"name": "get_weather"}}),
    ],
)
def test_openai_tool_choice(choice: str, theirs: Any) -> None:
    body = body_of(openai, OPENAI, LMRequest(messages=ASK, tools=[WEATHER], tool_choice=choice))
    assert body["tool_choice"] == theirs


def test_openai_tool_calls() -> None:
    reply = openai.decode(OPENAI_CALLS)
    assert (reply.text, reply.finish_reason, reply.id) == ("", "tool_calls", "chatcmpl-BxZ")
    assert [(call.id, call.name, call.parsed()) for call in reply.tool_calls] == [
        ("call_9pw1", "get_weather", {"city": "Paris"}),
        ("call_8fd2", "get_weather", {"city": "Oslo"}),
    ]
    assert (reply.usage.input_tokens, reply.usage.cached_tokens, reply.usage.reasoning_tokens) == (1058, 1024, 12)


def test_calls_of_servers_that_leave_out_ids_and_write_objects() -> None:
    reply = openai.decode(
        b'{"choices":[{"message":{"content":"","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]},'
        b'"finish_reason":"stop"}]}'
    )
    assert reply.tool_calls == (ToolCall(id="call_0", name="f", arguments='{"a":1}'),)
    assert reply.finish_reason == "tool_calls"


def test_shown_thinking_of_openai_compatible_servers() -> None:
    reply = openai.decode(b'{"choices":[{"message":{"content":"4","reasoning_content":"2+2"}}]}')
    assert (reply.text, reply.reasoning) == ("4", "2+2")


def test_anthropic_is_told_of_tools() -> None:
    body = body_of(anthropic, ANTHROPIC, LMRequest(messages=ASK, tools=[WEATHER], parallel_tool_calls=False))
    assert body["tools"] == [
        {"name": "get_weather", "description": "The weather in a city.", "input_schema": WEATHER.parameters}
    ]
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


@pytest.mark.parametrize(
    ("choice", "theirs"),
    [
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ("get_weather", {"type": "tool", "name": "get_weather"}),
    ],
)
def test_anthropic_tool_choice(choice: str, theirs: Any) -> None:
    body = body_of(anthropic, ANTHROPIC, LMRequest(messages=ASK, tools=[WEATHER], tool_choice=choice))
    assert body["tool_choice"] == theirs


def test_anthropic_tool_calls_and_tokens() -> None:
    reply = anthropic.decode(ANTHROPIC_CALLS)
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("I will look.", "Two cities.", "tool_calls")
    assert [(call.id, call.parsed()) for call in reply.tool_calls] == [
        ("toolu_01A0", {"city": "Paris"}),
        ("toolu_01B0", {"city": "Oslo"}),
    ]
    usage = reply.usage
    assert (usage.input_tokens, usage.cached_tokens, usage.cache_write_tokens) == (1320, 1000, 300)


def test_results_of_several_calls_are_one_turn_for_anthropic() -> None:
    body = body_of(anthropic, ANTHROPIC, LMRequest(messages=AFTER_CALLS, tools=[WEATHER]))
    assert body["system"] == "Be brief."
    assert body["messages"] == [
        ASK[0],
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "a", "name": "get_weather", "input": {"city": "Paris"}},
                {"type": "tool_use", "id": "b", "name": "get_weather", "input": {"city": "Oslo"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "18 degrees"},
                {"type": "tool_result", "tool_use_id": "b", "content": "3 degrees"},
            ],
        },
    ]


def test_arguments_that_are_not_json_cannot_be_replayed_to_anthropic() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{broken"}}
    messages = [*ASK, {"role": "assistant", "content": None, "tool_calls": [call]}]
    with pytest.raises(LMBadRequest, match="not JSON"):
        anthropic.encode(ANTHROPIC, LMRequest(messages=messages), None)


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("http://x/a.png", {"type": "url", "url": "http://x/a.png"}),
        ("data:image/png;base64,AAAA", {"type": "base64", "media_type": "image/png", "data": "AAAA"}),
    ],
)
def test_images_for_anthropic(url: str, source: dict[str, str]) -> None:
    blocks = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    body = body_of(anthropic, ANTHROPIC, LMRequest(messages=[{"role": "user", "content": blocks}]))
    assert body["messages"][0]["content"] == [blocks[0], {"type": "image", "source": source}]


def test_reasoning_effort() -> None:
    request = LMRequest(messages=ASK, reasoning_effort="low", temperature=0.2, max_tokens=100)
    assert body_of(openai, OPENAI, request)["reasoning_effort"] == "low"
    body = body_of(anthropic, ANTHROPIC, request)
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    assert body["max_tokens"] == 2148
    assert "temperature" not in body
    with pytest.raises(LMBadRequest, match="reasoning effort"):
        anthropic.encode(ANTHROPIC, LMRequest(messages=ASK, reasoning_effort="extreme"), None)


def test_what_a_provider_alone_knows_is_passed_on() -> None:
    request = LMRequest(messages=ASK, extra={"seed": 7})
    assert body_of(openai, OPENAI, request)["seed"] == 7


@pytest.mark.parametrize("arguments", ["[1]", "3"])
def test_arguments_that_are_no_object(arguments: str) -> None:
    with pytest.raises(ValueError, match="not an object"):
        ToolCall(id="a", name="f", arguments=arguments).parsed()


def test_documents_for_anthropic() -> None:
    def sent(part: dict[str, Any]) -> Any:
        body = body_of(anthropic, ANTHROPIC, LMRequest(messages=[{"role": "user", "content": [part]}]))
        return body["messages"][0]["content"][0]

    text = {"type": "file", "file": {"file_data": "data:text/markdown;base64,SGkh"}}
    assert sent(text) == {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Hi!"}}
    paper = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,SGkh"}}
    source = {"type": "base64", "media_type": "application/pdf", "data": "SGkh"}
    assert sent(paper) == {"type": "document", "source": source}
    sound = {"type": "input_audio", "input_audio": {"data": "SGkh", "format": "wav"}}
    for refused in (sound, {"type": "file", "file": {"file_id": "f1"}}, {"type": "image_url"}, "text"):
        with pytest.raises(LMBadRequest):
            sent(refused)  # type: ignore[arg-type]


def test_pictures_count_as_a_page_in_limits_on_tokens() -> None:
    url = "data:image/png;base64," + "A" * 1_000_000
    picture = {"type": "image_url", "image_url": {"url": url}}
    said = [
        {"role": "system", "content": "Look."},
        {"role": "user", "content": [{"type": "text", "text": "?"}, picture]},
    ]
    assert excess(said) == len(url) - 4_000
    assert excess(said[:1]) == excess([{"role": "user", "content": [None, {"type": "image_url"}, {"type": 7}]}]) == 0
