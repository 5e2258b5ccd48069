"""The wire modules: our request to a provider's bytes, a provider's bytes to our reply, refusals to errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dspex_services.lm import (
    LMAuth,
    LMBadReply,
    LMBadRequest,
    LMConfig,
    LMError,
    LMRateLimited,
    LMRequest,
    LMUnavailable,
    anthropic,
    openai,
)
from dspex_services.lm.wire import failure, retry_after

CHAT = [{"role": "system", "content": "Be exact."}, {"role": "user", "content": "Hé?"}]
OPENAI = LMConfig(model="openai/some-model", base_url="http://localhost:1/v1")
ANTHROPIC = LMConfig(model="anthropic/some-model")

# Shapes as the providers send them, fields that we do not read included.
OPENAI_REPLY: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1741569952,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello!", "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 19,
        "completion_tokens": 10,
        "total_tokens": 29,
        "prompt_tokens_details": {"cached_tokens": 0},
    },
    "service_tier": "default",
}
ANTHROPIC_REPLY: dict[str, Any] = {
    "id": "msg_01",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5-20251001",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "text", "text": "Hello, "},
        {"type": "text", "text": "you."},
    ],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 12, "cache_read_input_tokens": 0, "output_tokens": 6},
}


def body_of(module: Any, config: LMConfig, request: LMRequest) -> dict[str, Any]:
    return dict(json.loads(module.encode(config, request, None).body))


def test_openai_request() -> None:
    call = openai.encode(OPENAI, LMRequest(messages=CHAT, temperature=0.0, max_tokens=9, stop=["\n"]), "sk-1")
    assert call.path == "/chat/completions"
    assert call.headers == {"Content-Type": "application/json", "Authorization": "Bearer sk-1"}
    assert json.loads(call.body) == {
        "model": "some-model",
        "messages": CHAT,
        "temperature": 0.0,
        "max_tokens": 9,
        "stop": ["\n"],
    }


def test_a_request_says_no_more_than_it_was_told() -> None:
    assert set(body_of(openai, OPENAI, LMRequest(messages=CHAT))) == {"model", "messages"}
    assert "Authorization" not in openai.encode(OPENAI, LMRequest(messages=CHAT), None).headers


def test_openai_itself_is_given_the_limit_under_its_new_name() -> None:
    body = body_of(openai, LMConfig(model="openai/o4"), LMRequest(messages=CHAT, max_tokens=9))
    assert body["max_completion_tokens"] == 9
    assert "max_tokens" not in body


def test_the_request_wins_over_the_configuration_even_with_zero() -> None:
    config = LMConfig(model="openai/m", base_url="http://x", temperature=0.7, max_tokens=5)
    assert body_of(openai, config, LMRequest(messages=CHAT))["temperature"] == 0.7
    body = body_of(openai, config, LMRequest(messages=CHAT, temperature=0.0, max_tokens=3))
    assert (body["temperature"], body["max_tokens"]) == (0.0, 3)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, {"type": "json_object"}),
        ({"type": "object"}, {"type": "json_schema", "json_schema": {"name": "reply", "schema": {"type": "object"}}}),
    ],
)
def test_openai_structured_output(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    assert body_of(openai, OPENAI, LMRequest(messages=CHAT, response_schema=schema))["response_format"] == expected


def test_openai_reply() -> None:
    reply = openai.decode(json.dumps(OPENAI_REPLY).encode())
    assert (reply.text, reply.model, reply.finish_reason) == ("Hello!", "gpt-4o-mini-2024-07-18", "stop")
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (19, 10)


def test_openai_reply_without_what_small_servers_leave_out() -> None:
    reply = openai.decode(b'{"choices": [{"message": {"content": null}}]}')
    assert (reply.text, reply.model, reply.finish_reason, reply.usage.input_tokens) == ("", "", "stop", 0)


def test_openai_reply_of_servers_that_say_it_in_other_shapes() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "Hel"}]
    message = {"content": [*parts, {"type": "text", "text": "lo"}]}
    usage = {"prompt_tokens": 12.0, "completion_tokens": -1}
    body = {"choices": [{"message": message, "finish_reason": "eos_token"}], "usage": usage}
    reply = openai.decode(json.dumps(body).encode())
    assert (reply.text, reply.finish_reason) == ("Hello", "stop")
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (12, 0)


def test_anthropic_request_takes_the_system_text_apart() -> None:
    call = anthropic.encode(ANTHROPIC, LMRequest(messages=CHAT, stop=["END"]), "key")
    assert call.path == "/messages"
    assert call.headers["x-api-key"] == "key"
    assert call.headers["anthropic-version"] == "2023-06-01"
    assert json.loads(call.body) == {
        "model": "some-model",
        "max_tokens": 4096,
        "system": "Be exact.",
        "messages": CHAT[1:],
        "stop_sequences": ["END"],
    }


def test_anthropic_itself_takes_the_schema() -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    body = body_of(anthropic, ANTHROPIC, LMRequest(messages=CHAT, response_schema=schema))
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    assert body["system"] == "Be exact."


def test_another_server_of_its_protocol_is_asked_for_json_in_words() -> None:
    config = LMConfig(model="anthropic/some-model", base_url="http://localhost:1")
    body = body_of(anthropic, config, LMRequest(messages=CHAT, response_schema={"type": "array"}))
    assert "output_config" not in body
    assert body["system"].startswith("Be exact.")
    assert '{"type":"array"}' in body["system"]


def test_anthropic_reply() -> None:
    reply = anthropic.decode(json.dumps(ANTHROPIC_REPLY).encode())
    assert (reply.text, reply.model, reply.finish_reason) == ("Hello, you.", "claude-haiku-4-5-20251001", "stop")
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (12, 6)


@pytest.mark.parametrize(("theirs", "ours"), [("max_tokens", "length"), ("tool_use", "tool_calls"), ("new", "new")])
def test_anthropic_finish_reasons(theirs: str, ours: str) -> None:
    assert anthropic.decode(json.dumps({**ANTHROPIC_REPLY, "stop_reason": theirs}).encode()).finish_reason == ours


@pytest.mark.parametrize("module", [openai, anthropic])
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"choices": [], "content": 3}', b"\xff\xfe", b"null"])
def test_a_body_that_is_no_reply(module: Any, body: bytes) -> None:
    with pytest.raises(LMBadReply, match="not what its protocol promises") as caught:
        module.decode(body)
    assert caught.value.code == "lm_bad_reply"


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, LMBadRequest, False),
        (401, LMAuth, False),
        (403, LMAuth, False),
        (404, LMBadRequest, False),
        (408, LMUnavailable, True),
        (422, LMBadRequest, False),
        (429, LMRateLimited, True),
        (500, LMUnavailable, True),
        (503, LMUnavailable, True),
        (529, LMUnavailable, True),
    ],
)
def test_refusals(status: int, kind: type[LMError], retryable: bool) -> None:
    error = failure(OPENAI, "OPENAI_API_KEY", status, {}, b'{"error": {"message": "because", "type": "x"}}')
    assert type(error) is kind
    assert error.retryable is retryable
    assert error.details["http_status"] == status
    assert "because" in error.message


@pytest.mark.parametrize("body", [b"plain words", b'{"error": "plain words"}'])
def test_a_refusal_in_another_shape_is_still_shown(body: bytes) -> None:
    assert "plain words" in failure(OPENAI, "OPENAI_API_KEY", 400, {}, body).message


def test_a_refused_key_names_the_variable_to_set() -> None:
    assert "OPENAI_API_KEY" in failure(OPENAI, "OPENAI_API_KEY", 401, {}, b"").message


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "3"}, 3.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Tue, 14 Nov 2023 22:13:30 GMT"}, 10.0),
        ({"Retry-After": "Tue, 14 Nov 2023 22:13:10 GMT"}, 0.0),
        ({"Retry-After": "9", "retry-after-ms": "250"}, 0.25),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


def test_a_refusal_says_when_to_come_back() -> None:
    assert failure(OPENAI, "K", 429, {"Retry-After": "3"}, b"").retry_after_s == 3
