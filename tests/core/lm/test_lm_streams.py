"""Streams of both protocols, in the shapes in which the providers send them, cut at every byte."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from dspex_services.lm import (
    Delta,
    LMBadReply,
    LMBadRequest,
    LMConfig,
    LMError,
    LMRateLimited,
    LMReply,
    LMUnavailable,
    anthropic,
    openai,
)
from dspex_services.lm.sse import EventStream, ServerEvent

OPENAI = LMConfig(model="openai/m", base_url="http://localhost:1/v1")
ANTHROPIC = LMConfig(model="anthropic/m")


def _chunk(choices: str, rest: str = '"usage":null') -> str:
    head = '"id":"chatcmpl-C1","object":"chat.completion.chunk","created":1752000001,"model":"gpt-4o-mini-2024-07-18"'
    return f'data: {{{head},"service_tier":"default","choices":[{choices}],{rest}}}\n\n'


def _choice(delta: str, finish: str = "null") -> str:
    return f'{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}'


OPENAI_TEXT = "".join(
    [
        _chunk(_choice('{"role":"assistant","content":"","refusal":null}')),
        _chunk(_choice('{"content":"Grüß"}')),
        _chunk(_choice('{"content":" Gott"}')),
        _chunk(_choice("{}", '"stop"')),
        _chunk("", '"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}'),
        "data: [DONE]\n\n",
    ]
).encode()
OPENAI_TOOLS = "".join(
    [
        _chunk(
            _choice(
                '{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_D","type":"function",'
                '"function":{"name":"get_weather","arguments":""}}]}'
            )
        ),
        _chunk(_choice('{"tool_calls":[{"index":0,"function":{"arguments":"{\\"city\\":"}}]}')),
        _chunk(_choice('{"tool_calls":[{"index":0,"function":{"arguments":"\\"Paris\\"}"}}]}')),
        _chunk(
            _choice(
                '{"tool_calls":[{"index":1,"id":"call_E","type":"function","function":{"name":"now","arguments":"{}"}}]}'
            )
        ),
        _chunk(_choice("{}", '"tool_calls"')),
        "data: [DONE]\n\n",
    ]
).encode()
ANTHROPIC_TEXT = """\
event: message_start
data: {"type":"message_start","message":{"id":"msg_01","type":"message","role":"assistant","model":"claude-haiku-4-5-20251001","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":0,"cache_read_input_tokens":10,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"A greeting."}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: ping
data: {"type": "ping"}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Grüß"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":" Gott"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15}}

event: message_stop
data: {"type":"message_stop"}

""".encode()  # noqa: E501
ANTHROPIC_TOOLS = b"""\
event: message_start
data: {"type":"message_start","message":{"id":"msg_02","type":"message","role":"assistant","model":"claude-haiku-4-5-20251001","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":472,"output_tokens":2}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Okay."}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_01T","name":"get_weather","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\\"city\\": \\"Pa"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"ris\\"}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_02T","name":"now","input":{}}}

event: content_block_stop
data: {"type":"content_block_stop","index":2}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":89}}

event: message_stop
data: {"type":"message_stop"}

"""  # noqa: E501


def played(module: Any, config: LMConfig, chunks: Sequence[bytes]) -> tuple[list[Delta], LMReply]:
    events, assembly = EventStream(), module.assembly(config)
    deltas = [delta for chunk in chunks for event in events.feed(chunk) for delta in assembly.feed(event)]
    return deltas, assembly.reply()


@pytest.mark.parametrize(
    ("module", "config", "stream", "model", "tokens"),
    [
        (openai, OPENAI, OPENAI_TEXT, "gpt-4o-mini-2024-07-18", (9, 4)),
        (anthropic, ANTHROPIC, ANTHROPIC_TEXT, "claude-haiku-4-5-20251001", (35, 15)),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_text(module: Any, config: LMConfig, stream: bytes, model: str, tokens: tuple[int, int], size: int) -> None:
    deltas, reply = played(module, config, [stream[at : at + size] for at in range(0, len(stream), size)])
    assert [delta.text for delta in deltas if delta.text] == ["Grüß", " Gott"]
    assert (reply.text, reply.model, reply.finish_reason) == ("Grüß Gott", model, "stop")
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == tokens


def test_carriage_returns_and_comments_are_allowed() -> None:
    stream = b": OPENROUTER PROCESSING\r\n\r\n" + OPENAI_TEXT.replace(b"\n", b"\r\n")
    assert played(openai, OPENAI, [stream])[1].text == "Grüß Gott"


@pytest.mark.parametrize(
    ("module", "config", "stream", "ids"),
    [
        (openai, OPENAI, OPENAI_TOOLS, ["call_D", "call_E"]),
        (anthropic, ANTHROPIC, ANTHROPIC_TOOLS, ["toolu_01T", "toolu_02T"]),
    ],
)
def test_tool_calls(module: Any, config: LMConfig, stream: bytes, ids: list[str]) -> None:
    deltas, reply = played(module, config, [stream])
    assert reply.finish_reason == "tool_calls"
    assert [(call.id, call.name, call.parsed()) for call in reply.tool_calls] == [
        (ids[0], "get_weather", {"city": "Paris"}),
        (ids[1], "now", {}),
    ]
    pieces = [delta for delta in deltas if delta.tool == 0]
    assert (pieces[0].id, pieces[0].name) == (ids[0], "get_weather")
    assert "".join(piece.arguments for piece in pieces).replace(" ", "") == '{"city":"Paris"}'


def test_thinking_is_apart_from_the_text() -> None:
    deltas, reply = played(anthropic, ANTHROPIC, [ANTHROPIC_TEXT])
    assert reply.reasoning == "A greeting."
    assert deltas[0] == Delta(reasoning="A greeting.")


@pytest.mark.parametrize(
    ("module", "config", "stream"), [(openai, OPENAI, OPENAI_TEXT), (anthropic, ANTHROPIC, ANTHROPIC_TEXT)]
)
def test_a_stream_without_its_end_is_no_reply(module: Any, config: LMConfig, stream: bytes) -> None:
    marker = b'"stop"' if module is openai else b"event: message_delta"
    with pytest.raises(LMUnavailable, match="cut before its end") as caught:
        played(module, config, [stream[: stream.index(marker)]])
    assert caught.value.retryable


_ERROR = '{"type":"error","error":{"details":null,"type":"%s","message":"%s"},"request_id":"req_01"}'


@pytest.mark.parametrize(
    ("module", "config", "data", "kind"),
    [
        (anthropic, ANTHROPIC, _ERROR % ("overloaded_error", "Overloaded"), LMUnavailable),
        (anthropic, ANTHROPIC, _ERROR % ("rate_limit_error", "slow down"), LMRateLimited),
        (anthropic, ANTHROPIC, _ERROR % ("invalid_request_error", "no"), LMBadRequest),
        (openai, OPENAI, '{"error":{"message":"an error","type":"server_error","code":null}}', LMUnavailable),
        (openai, OPENAI, '{"error":"out of memory"}', LMUnavailable),
        (openai, OPENAI, "<html>", LMBadReply),
        (anthropic, ANTHROPIC, "{", LMBadReply),
    ],
)
def test_errors_inside_a_stream(module: Any, config: LMConfig, data: str, kind: type[LMError]) -> None:
    with pytest.raises(kind):
        module.assembly(config).feed(ServerEvent("", data.encode()))


def test_a_line_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="a line of more than"):
        EventStream(longest=10).feed(b"data: " + b"x" * 20)
