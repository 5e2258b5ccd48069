"""OpenAI's chat completions: our request to its bytes, its bytes to our reply. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from .types import LMConfig, LMReply, LMRequest, Usage
from .wire import WireCall, bad_reply

KEY_VARIABLE = "OPENAI_API_KEY"
DEFAULT_BASE_URL = "https://api.openai.com/v1"

_encode = msgspec.json.Encoder().encode


class _Message(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    model: str = ""
    usage: _Usage | None = None


_decode = msgspec.json.Decoder(_Completion).decode


def encode(config: LMConfig, request: LMRequest, key: str | None) -> WireCall:
    body: dict[str, Any] = {"model": config.model_name, "messages": request.messages}
    temperature = config.temperature if request.temperature is None else request.temperature
    if temperature is not None:
        body["temperature"] = temperature
    max_tokens = request.max_tokens or config.max_tokens
    if max_tokens:
        # OpenAI's newer models refuse max_tokens; other servers know only that name.
        body["max_tokens" if config.base_url else "max_completion_tokens"] = max_tokens
    if request.stop:
        body["stop"] = request.stop
    if request.response_schema is not None:
        body["response_format"] = _response_format(request.response_schema)
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    return WireCall("/chat/completions", headers, _encode(body))


def _response_format(schema: dict[str, Any]) -> dict[str, Any]:
    if not schema:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}}


def decode(body: bytes) -> LMReply:
    try:
        completion = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_reply(str(error), body) from error
    if not completion.choices:
        raise bad_reply("no choices", body)
    choice = completion.choices[0]
    usage = completion.usage or _Usage()
    return LMReply(
        text=choice.message.content or choice.message.refusal or "",
        model=completion.model,
        finish_reason=choice.finish_reason or "stop",
        usage=Usage(input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens),
    )
