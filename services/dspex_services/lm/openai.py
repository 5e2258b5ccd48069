"""OpenAI's chat completions: our request to its bytes, its bytes to our reply. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from .sse import ServerEvent
from .types import Delta, LMConfig, LMReply, LMRequest, Tool, ToolCall, Usage
from .wire import Refusal, Said, WireCall, bad_reply, cut, failure_in_stream

KEY_VARIABLE = "OPENAI_API_KEY"
DEFAULT_BASE_URL = "https://api.openai.com/v1"

_encode = msgspec.json.Encoder().encode
_FINISHED = {
    "function_call": "tool_calls",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_length": "length",
}
"""Words of other servers."""


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _Call(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: _Function = msgspec.field(default_factory=_Function)


class _Block(msgspec.Struct):
    """A part of a content in parts: ``text``, or the thinking that some servers show among them."""

    type: str = ""
    text: str | None = None


class _Message(msgspec.Struct):
    """``reasoning_content`` is DeepSeek's and vLLM's name for shown thinking, ``reasoning`` that of some gateways."""

    content: str | list[_Block] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice] | None = None
    error: Refusal | str | None = None
    id: str | None = None
    model: str = ""
    usage: _Usage | None = None


class _Part(msgspec.Struct):
    delta: _Message | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Part] = []
    id: str | None = None
    model: str | None = None
    usage: _Usage | None = None
    error: Refusal | str | None = None


_decode = msgspec.json.Decoder(_Completion).decode
_decode_chunk = msgspec.json.Decoder(_Chunk).decode


def encode(config: LMConfig, request: LMRequest, key: str | None, *, stream: bool = False) -> WireCall:
    body: dict[str, Any] = {"model": config.model_name, "messages": request.messages}
    temperature = config.temperature if request.temperature is None else request.temperature
    if temperature is not None:
        body["temperature"] = temperature
    max_tokens = config.max_tokens if request.max_tokens is None else request.max_tokens
    if max_tokens is not None:
        # OpenAI's newer models refuse max_tokens; other servers know only that name.
        body["max_tokens" if config.base_url else "max_completion_tokens"] = max_tokens
    if request.top_p is not None:
        body["top_p"] = request.top_p
    if request.stop:
        body["stop"] = request.stop
    if request.response_schema is not None:
        body["response_format"] = _response_format(request, request.response_schema)
    if request.reasoning_effort is not None:
        body["reasoning_effort"] = request.reasoning_effort
    if request.tools:
        _add_tools(body, request)
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    if request.extra:
        body.update(request.extra)
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    return WireCall("/chat/completions", headers, _encode(body))


def _response_format(request: LMRequest, schema: dict[str, Any]) -> dict[str, Any]:
    if not schema:
        return {"type": "json_object"}
    described: dict[str, Any] = {"name": request.schema_name, "schema": schema}
    if request.strict_schema is not None:
        described["strict"] = request.strict_schema
    return {"type": "json_schema", "json_schema": described}


def _add_tools(body: dict[str, Any], request: LMRequest) -> None:
    body["tools"] = [{"type": "function", "function": _function(tool)} for tool in request.tools]
    choice = request.tool_choice
    if choice in ("none", "required"):
        body["tool_choice"] = choice
    elif choice != "auto":
        body["tool_choice"] = {"type": "function", "function": {"name": choice}}
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls


def _function(tool: Tool) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "parameters": tool.parameters}


def decode(body: bytes) -> LMReply:
    try:
        completion = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_reply(str(error), body) from error
    if not completion.choices:
        if completion.error:
            raise Said(completion.error)
        raise bad_reply("no choices", body)
    choice = completion.choices[0]
    message = choice.message
    calls = tuple([_call(place, call) for place, call in enumerate(message.tool_calls)]) if message.tool_calls else ()
    return LMReply(
        text=_text(message) or message.refusal or "",
        model=completion.model,
        finish_reason=_finish(choice.finish_reason, bool(calls)),
        usage=_usage(completion.usage),
        tool_calls=calls,
        reasoning=message.reasoning_content or message.reasoning or "",
        id=completion.id or "",
    )


def _text(message: _Message) -> str:
    said = message.content
    if said is None or isinstance(said, str):
        return said or ""
    return "".join([block.text or "" for block in said if block.type == "text"])


def _finish(said: str | None, called: bool) -> str:
    """Some servers say ``stop`` after a tool call, or nothing."""
    if called and said in (None, "stop"):
        return "tool_calls"
    return _FINISHED.get(said or "stop", said or "stop")


def _call(place: int, call: _Call) -> ToolCall:
    """Some servers give calls no id, and their arguments as an object."""
    said = call.function.arguments
    arguments = _encode(said).decode() if isinstance(said, dict) else said or ""
    return ToolCall(id=call.id or f"call_{place}", name=call.function.name or "", arguments=arguments)


def _usage(said: _Usage | None) -> Usage:
    if said is None:
        return Usage()
    cached = said.prompt_tokens_details.cached_tokens if said.prompt_tokens_details else 0
    reasoning = said.completion_tokens_details.reasoning_tokens if said.completion_tokens_details else 0
    return Usage(
        input_tokens=max(0, int(said.prompt_tokens or 0)),
        output_tokens=max(0, int(said.completion_tokens or 0)),
        cached_tokens=cached or 0,
        reasoning_tokens=reasoning or 0,
    )


def assembly(config: LMConfig) -> _Assembly:
    return _Assembly(config)


class _Assembly:
    def __init__(self, config: LMConfig) -> None:
        self._config = config
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._finish: str | None = None
        self.over = False
        self._usage: _Usage | None = None
        self._id = self._model = ""

    def feed(self, event: ServerEvent) -> Sequence[Delta]:
        if event.data == b"[DONE]":
            self.over = True
            return ()
        try:
            chunk = _decode_chunk(event.data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise bad_reply(str(error), event.data) from error
        if chunk.error is not None:
            said = Refusal(message=chunk.error) if isinstance(chunk.error, str) else chunk.error
            raise failure_in_stream(self._config, said)
        self._id = self._id or chunk.id or ""
        self._model = self._model or chunk.model or ""
        self._usage = chunk.usage or self._usage
        if not chunk.choices:
            return ()
        part = chunk.choices[0]
        self._finish = part.finish_reason or self._finish
        return self._deltas(part.delta) if part.delta is not None else ()

    def _deltas(self, delta: _Message) -> list[Delta]:
        found: list[Delta] = []
        thought = delta.reasoning_content or delta.reasoning
        if thought:
            self._reasoning.append(thought)
            found.append(Delta(reasoning=thought))
        said = _text(delta) or delta.refusal
        if said:
            self._text.append(said)
            found.append(Delta(text=said))
        for piece in delta.tool_calls or ():
            found.append(self._piece(piece))
        return found

    def _piece(self, piece: _Call) -> Delta:
        call = self._calls.setdefault(piece.index, _Call(index=piece.index, function=_Function(arguments="")))
        call.id = call.id or piece.id
        call.function.name = call.function.name or piece.function.name
        more = piece.function.arguments
        text = _encode(more).decode() if isinstance(more, dict) else more or ""
        call.function.arguments = f"{call.function.arguments}{text}"
        return Delta(tool=piece.index, id=piece.id or "", name=piece.function.name or "", arguments=text)

    def reply(self) -> LMReply:
        if self._finish is None and not self.over:
            raise cut(self._config)
        calls = tuple(_call(place, call) for place, (_, call) in enumerate(sorted(self._calls.items())))
        return LMReply(
            text="".join(self._text),
            model=self._model,
            finish_reason=_finish(self._finish, bool(calls)),
            usage=_usage(self._usage),
            tool_calls=calls,
            reasoning="".join(self._reasoning),
            id=self._id,
        )
