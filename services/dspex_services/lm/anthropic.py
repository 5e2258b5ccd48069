"""Anthropic's messages API: our request to its bytes, its bytes to our reply. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from .types import LMConfig, LMReply, LMRequest, Usage
from .wire import WireCall, bad_reply

KEY_VARIABLE = "ANTHROPIC_API_KEY"
DEFAULT_BASE_URL = "https://api.anthropic.com/v1"
API_VERSION = "2023-06-01"
DEFAULT_MAX_TOKENS = 4096  # the API insists on a limit

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}

_encode = msgspec.json.Encoder().encode


class _Block(msgspec.Struct):
    type: str
    text: str = ""


class _Message(msgspec.Struct):
    content: list[_Block]
    model: str = ""
    stop_reason: str | None = None
    usage: Usage = Usage()


_decode = msgspec.json.Decoder(_Message).decode


def encode(config: LMConfig, request: LMRequest, key: str | None) -> WireCall:
    system, turns = _split(request)
    body: dict[str, Any] = {
        "model": config.model_name,
        "max_tokens": request.max_tokens or config.max_tokens or DEFAULT_MAX_TOKENS,
        "messages": turns,
    }
    if system:
        body["system"] = system
    temperature = config.temperature if request.temperature is None else request.temperature
    if temperature is not None:
        body["temperature"] = temperature
    if request.stop:
        body["stop_sequences"] = request.stop
    headers = {"Content-Type": "application/json", "anthropic-version": API_VERSION}
    if key:
        headers["x-api-key"] = key
    return WireCall("/messages", headers, _encode(body))


def _split(request: LMRequest) -> tuple[str, list[dict[str, Any]]]:
    """The system text, and the turns without it: this API takes them apart."""
    parts = [message["content"] for message in request.messages if message["role"] == "system"]
    if request.response_schema is not None:
        parts.append(_json_wanted(request.response_schema))
    return "\n\n".join(parts), [message for message in request.messages if message["role"] != "system"]


def _json_wanted(schema: dict[str, Any]) -> str:
    """Every model of this provider understands being asked; only its newest take a schema as a parameter."""
    if not schema:
        return "Reply with one JSON object and nothing else."
    return f"Reply with one JSON value and nothing else. It must follow this JSON Schema: {_encode(schema).decode()}"


def decode(body: bytes) -> LMReply:
    try:
        message = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_reply(str(error), body) from error
    reason = message.stop_reason or "end_turn"
    return LMReply(
        text="".join(block.text for block in message.content if block.type == "text"),
        model=message.model,
        finish_reason=FINISH_REASONS.get(reason, reason),
        usage=message.usage,
    )
