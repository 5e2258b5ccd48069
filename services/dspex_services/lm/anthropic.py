"""Anthropic's messages API: our request to its bytes, its bytes to our reply. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from .anthropic_turns import turns
from .errors import LMBadRequest
from .sse import ServerEvent
from .types import Delta, LMConfig, LMReply, LMRequest, ToolCall, Usage
from .wire import Refusal, WireCall, bad_reply, cut, failure_in_stream

KEY_VARIABLE = "ANTHROPIC_API_KEY"
DEFAULT_BASE_URL = "https://api.anthropic.com/v1"
API_VERSION = "2023-06-01"
DEFAULT_MAX_TOKENS = 4096  # the API insists on a limit

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}

THINKING = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384}
"""Tokens to think with, by effort; the limit on the answer is raised by as many."""

_encode = msgspec.json.Encoder().encode


class _Block(msgspec.Struct):
    type: str
    text: str = ""
    thinking: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, Any] = {}


class _Usage(msgspec.Struct):
    """The three kinds of input are counted apart here."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Message(msgspec.Struct):
    content: list[_Block]
    id: str = ""
    model: str = ""
    stop_reason: str | None = None
    usage: _Usage = msgspec.field(default_factory=_Usage)


class _Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: Refusal | None = None


_decode = msgspec.json.Decoder(_Message).decode
_decode_event = msgspec.json.Decoder(_Event).decode


def encode(config: LMConfig, request: LMRequest, key: str | None, *, stream: bool = False) -> WireCall:
    system, messages = turns(request.messages)
    body: dict[str, Any] = {
        "model": config.model_name,
        "max_tokens": request.max_tokens or config.max_tokens or DEFAULT_MAX_TOKENS,
        "messages": messages,
    }
    if request.response_schema is not None:
        if request.response_schema and _takes_schemas(config):
            body["output_config"] = {"format": {"type": "json_schema", "schema": request.response_schema}}
        else:
            system = "\n\n".join([*([system] if system else []), _json_wanted(request.response_schema)])
    if system:
        body["system"] = system
    temperature = config.temperature if request.temperature is None else request.temperature
    if temperature is not None:
        body["temperature"] = min(temperature, 1.0)  # this API's highest; OpenAI's is 2
    if request.top_p is not None:
        body["top_p"] = request.top_p
    if request.stop:
        body["stop_sequences"] = request.stop
    if request.reasoning_effort is not None:
        _add_thinking(body, request.reasoning_effort)
    if request.tools:
        _add_tools(body, request)
    if stream:
        body["stream"] = True
    if request.extra:
        body.update(request.extra)
    headers = {"Content-Type": "application/json", "anthropic-version": API_VERSION}
    if key:
        headers["x-api-key"] = key
    return WireCall("/messages", headers, _encode(body))


def _takes_schemas(config: LMConfig) -> bool:
    return (config.structured_output or ("prompt" if config.base_url else "parameter")) == "parameter"


def _json_wanted(schema: dict[str, Any]) -> str:
    """Every model of this provider understands being asked; older ones and other servers take no schema."""
    if not schema:
        return "Reply with one JSON object and nothing else."
    return f"Reply with one JSON value and nothing else. It must follow this JSON Schema: {_encode(schema).decode()}"


def _add_thinking(body: dict[str, Any], effort: str) -> None:
    if effort in ("off", "none"):
        return
    if effort not in THINKING:
        raise LMBadRequest(f"no reasoning effort {effort!r}; there are: off, {', '.join(THINKING)}")
    body["thinking"] = {"type": "enabled", "budget_tokens": THINKING[effort]}
    body["max_tokens"] += THINKING[effort]
    body.pop("temperature", None)  # refused beside thinking


def _add_tools(body: dict[str, Any], request: LMRequest) -> None:
    body["tools"] = [
        {
            "name": tool.name,
            **({"description": tool.description} if tool.description else {}),
            "input_schema": tool.parameters,
        }
        for tool in request.tools
    ]
    kinds = {"auto": "auto", "none": "none", "required": "any"}
    kind = kinds.get(request.tool_choice)
    choice: dict[str, Any] = {"type": kind} if kind else {"type": "tool", "name": request.tool_choice}
    if request.parallel_tool_calls is False and kind != "none":
        choice["disable_parallel_tool_use"] = True
    if choice != {"type": "auto"}:
        body["tool_choice"] = choice


def decode(body: bytes) -> LMReply:
    try:
        message = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_reply(str(error), body) from error
    return _reply(message)


def _reply(message: _Message) -> LMReply:
    reason = message.stop_reason or "end_turn"
    return LMReply(
        text="".join(block.text for block in message.content if block.type == "text"),
        model=message.model,
        finish_reason=FINISH_REASONS.get(reason, reason),
        usage=_usage(message.usage),
        tool_calls=tuple(
            ToolCall(id=block.id, name=block.name, arguments=_encode(block.input).decode())
            for block in message.content
            if block.type == "tool_use"
        ),
        reasoning="".join(block.thinking for block in message.content if block.type == "thinking"),
        id=message.id,
    )


def _usage(said: _Usage) -> Usage:
    read, written = said.cache_read_input_tokens or 0, said.cache_creation_input_tokens or 0
    return Usage(
        input_tokens=(said.input_tokens or 0) + read + written,
        output_tokens=said.output_tokens or 0,
        cached_tokens=read,
        cache_write_tokens=written,
    )


def assembly(config: LMConfig) -> _Assembly:
    return _Assembly(config)


class _Assembly:
    def __init__(self, config: LMConfig) -> None:
        self._config = config
        self._message: _Message | None = None
        self._arguments: dict[int, list[str]] = {}
        self._tools: dict[int, int] = {}
        self.over = False

    def feed(self, event: ServerEvent) -> Sequence[Delta]:
        try:
            said = _decode_event(event.data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise bad_reply(str(error), event.data) from error
        if said.type == "error":
            raise failure_in_stream(self._config, said.error or Refusal())
        if said.type == "message_start" and said.message is not None:
            self._message = said.message
            return ()
        if self._message is None or said.type == "ping":
            return ()
        match said.type:
            case "content_block_start" if said.content_block is not None:
                return self._started(said.index, said.content_block)
            case "content_block_delta" if said.delta is not None and said.index < len(self._message.content):
                return self._added(said.index, said.delta)
            case "message_delta":
                self._end(said)
            case "message_stop":
                self.over = True
        return ()

    def _started(self, index: int, block: _Block) -> Sequence[Delta]:
        assert self._message is not None
        self._message.content.append(block)
        if block.type != "tool_use":
            return ()
        self._arguments[index] = []
        place = self._tools[index] = len(self._tools)
        return (Delta(tool=place, id=block.id, name=block.name),)

    def _added(self, index: int, delta: _Delta) -> Sequence[Delta]:
        assert self._message is not None
        block = self._message.content[index]
        match delta.type:
            case "text_delta":
                block.text += delta.text
                return (Delta(text=delta.text),)
            case "thinking_delta":
                block.thinking += delta.thinking
                return (Delta(reasoning=delta.thinking),)
            case "input_json_delta" if index in self._arguments:
                self._arguments[index].append(delta.partial_json)
                return (Delta(tool=self._tools[index], arguments=delta.partial_json),)
        return ()

    def _end(self, said: _Event) -> None:
        """Its counts are the whole message's; what it leaves out stands as the start said."""
        assert self._message is not None
        if said.delta is not None and said.delta.stop_reason is not None:
            self._message.stop_reason = said.delta.stop_reason
        for name in _Usage.__struct_fields__:
            count = getattr(said.usage, name, None)
            if count is not None:
                setattr(self._message.usage, name, count)

    def reply(self) -> LMReply:
        if self._message is None or not (self.over or self._message.stop_reason):
            raise cut(self._config)
        reply = _reply(self._message)
        written = {place: "".join(self._arguments[index]) for index, place in self._tools.items()}
        calls = tuple(
            msgspec.structs.replace(call, arguments=written[place] or "{}")
            for place, call in enumerate(reply.tool_calls)
        )
        return msgspec.structs.replace(reply, tool_calls=calls)
