"""DSPy's canonical requests as ours, our replies and errors as its own. Pure."""

from __future__ import annotations

import base64
import json
import mimetypes
from collections.abc import Iterator
from typing import Any

from dspy import lm15

from ..lm import (
    Delta,
    LMAuth,
    LMBadRequest,
    LMContextTooLong,
    LMError,
    LMQuota,
    LMRateLimited,
    LMReply,
    LMRequest,
    LMTimeout,
    Tool,
    ToolCall,
    Usage,
)

_FINISHED = {"stop": "stop", "length": "length", "tool_calls": "tool_call", "content_filter": "content_filter"}
_EXTRA = ("top_k", "seed", "frequency_penalty", "presence_penalty", "service_tier", "store")
_SOUNDS = {"mpeg": "mp3"}
_UNSUPPORTED = ("logprobs", "probabilities", "cache")


def request_of(request: lm15.Request) -> LMRequest:
    """Raises lm15.UnsupportedFeatureError for what our client does not carry."""
    config = request.config
    messages = [] if request.system is None else [{"role": "system", "content": _system(request.system)}]
    for message in request.messages:
        messages += _messages(message)
    for name in _UNSUPPORTED:
        if getattr(config, name) is not None:
            raise _unsupported(name)
    extra = {name: value for name in _EXTRA if (value := getattr(config, name)) is not None}
    if config.user_id is not None:
        extra["user"] = config.user_id
    format_ = config.response_format or {}
    choice = config.tool_choice
    reasoning = config.reasoning
    return LMRequest(
        messages=messages,
        temperature=config.temperature,
        max_tokens=config.max_tokens,
        top_p=config.top_p,
        stop=list(config.stop),
        response_schema=format_.get("schema", {}) if format_ else None,
        schema_name=format_.get("name", "response"),
        strict_schema=format_.get("strict"),
        tools=[_tool(tool) for tool in request.tools],
        tool_choice=_choice(choice),
        parallel_tool_calls=None if choice is None else choice.parallel,
        reasoning_effort=None if reasoning is None else reasoning.effort,
        extra={**extra, **(config.extensions or {})},
    )


def _system(system: Any) -> Any:
    return system if isinstance(system, str) else [_block(part) for part in system]


def _messages(message: lm15.Message) -> list[dict[str, Any]]:
    parts = message.parts
    if message.role == "tool":
        return [{"role": "tool", "tool_call_id": part.id, "content": _result(part)} for part in parts]
    if len(parts) == 1 and parts[0].type == "text":
        return [{"role": message.role, "content": parts[0].text}]
    calls = [_call(part) for part in parts if part.type == "tool_call"]
    blocks = [_block(part) for part in parts if part.type not in ("tool_call", "thinking")]
    said: Any = blocks
    if all(block["type"] == "text" for block in blocks):
        said = "".join(block["text"] for block in blocks) or None
    made: dict[str, Any] = {"role": message.role, "content": said}
    return [{**made, "tool_calls": calls} if calls else made]


def _block(part: Any) -> dict[str, Any]:
    match part.type:
        case "text" | "refusal":
            return {"type": "text", "text": part.text}
        case "data":
            return {"type": "text", "text": json.dumps(part.value, ensure_ascii=False)}
        case "image" if part.file_id is None:
            url = part.url or _uri(part)
            detail = {"detail": part.detail} if part.detail else {}
            return {"type": "image_url", "image_url": {"url": url, **detail}}
        case "audio" if part.data is not None:
            kind = part.media_type.partition("/")[2]
            return {"type": "input_audio", "input_audio": {"data": part.data, "format": _SOUNDS.get(kind, kind)}}
        case "document" if part.data is not None:
            return {"type": "file", "file": {"filename": _filename(part.media_type), "file_data": _uri(part)}}
    raise _unsupported(f"{part.type} parts")


def _uri(part: Any) -> str:
    data = part.data if part.data is not None else base64.b64encode(part.bytes).decode()
    return f"data:{part.media_type};base64,{data}"


def _filename(media_type: str) -> str:
    """OpenAI insists on one, and DSPy's requests carry none."""
    return f"document{mimetypes.guess_extension(media_type) or ''}"


def _call(part: lm15.ToolCallPart) -> dict[str, Any]:
    arguments = json.dumps(part.input, ensure_ascii=False)
    return {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": arguments}}


def _result(part: lm15.ToolResultPart) -> Any:
    blocks = [_block(piece) for piece in part.content]
    if any(block["type"] != "text" for block in blocks):
        return blocks
    text = "\n".join(block["text"] for block in blocks)
    return f"[error] {text}" if part.is_error else text


def _tool(tool: Any) -> Tool:
    if tool.type != "function":
        raise _unsupported(f"the built-in tool {tool.name}")
    return Tool(name=tool.name, description=tool.description or "", parameters=tool.parameters)


def _choice(choice: Any) -> str:
    if choice is None:
        return "auto"
    if not choice.allowed:
        return str(choice.mode)
    if len(choice.allowed) > 1 or choice.mode != "required":
        raise _unsupported("a choice among some of the tools")
    return str(choice.allowed[0])


def _unsupported(what: str) -> lm15.UnsupportedFeatureError:
    return lm15.UnsupportedFeatureError(f"our client does not carry {what}", feature=what)


def response_of(request: lm15.Request, reply: LMReply) -> lm15.Response:
    """Raises lm15.ServerError where the model wrote a tool call that is none."""
    parts: list[Any] = [lm15.ThinkingPart(reply.reasoning)] if reply.reasoning else []
    if reply.text or not reply.tool_calls:
        parts.append(lm15.TextPart(reply.text))
    parts += [lm15.ToolCallPart(id=call.id, name=call.name, input=_arguments(call)) for call in reply.tool_calls]
    return lm15.Response(
        id=reply.id or None,
        model=reply.model or request.model,
        message=lm15.Message(role="assistant", parts=tuple(parts)),
        finish_reason=_finish(reply),
        usage=_usage(reply.usage),
    )


def _arguments(call: ToolCall) -> dict[str, Any]:
    try:
        return call.parsed()
    except ValueError as error:
        raise lm15.ServerError(
            f"the model called {call.name} with arguments that are no JSON object: {error}"
        ) from error


def _finish(reply: LMReply) -> Any:
    return _FINISHED.get(reply.finish_reason, "stop")


def _usage(usage: Usage) -> lm15.Usage:
    return lm15.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_tokens or None,
        cache_write_tokens=usage.cache_write_tokens or None,
        reasoning_tokens=usage.reasoning_tokens or None,
    )


class StreamEvents:
    """The events of one streamed reply. Reasoning, text and each tool call are parts of their own, in the order in
    which they begin."""

    def __init__(self, request: lm15.Request) -> None:
        self._model = request.model
        self._places: dict[Any, int] = {}

    def start(self) -> Any:
        return lm15.StreamStartEvent(model=self._model)

    def delta(self, piece: Delta) -> Iterator[Any]:
        if piece.reasoning:
            yield lm15.StreamDeltaEvent(lm15.ThinkingDelta(piece.reasoning, self._place("reasoning")))
        if piece.text:
            yield lm15.StreamDeltaEvent(lm15.TextDelta(piece.text, self._place("text")))
        if piece.tool is not None:
            made = lm15.ToolCallDelta(
                piece.arguments, self._place(piece.tool), id=piece.id or None, name=piece.name or None
            )
            yield lm15.StreamDeltaEvent(made)

    def end(self, reply: LMReply) -> Iterator[Any]:
        if not self._places:
            yield lm15.StreamDeltaEvent(lm15.TextDelta(reply.text, 0))
        yield lm15.StreamEndEvent(finish_reason=_finish(reply), usage=_usage(reply.usage))

    def _place(self, part: Any) -> int:
        return self._places.setdefault(part, len(self._places))


# The first that fits counts, so the special ones come before their base classes.
_ERRORS: tuple[tuple[type[LMError], Any], ...] = (
    (LMContextTooLong, lm15.ContextLengthError),
    (LMBadRequest, lm15.InvalidRequestError),
    (LMQuota, lm15.BillingError),
    (LMAuth, lm15.AuthError),
    (LMRateLimited, lm15.RateLimitError),
    (LMTimeout, lm15.TimeoutError),
)


def canonical_error(error: LMError) -> lm15.ProviderError:
    """Raise it ``from`` the error, so that what is lost here can be found again."""
    kind = next((theirs for ours, theirs in _ERRORS if isinstance(error, ours)), lm15.ServerError)
    return kind(
        error.message,
        provider=error.details.get("provider"),
        status=error.details.get("http_status"),
        retry_after=error.retry_after_s,
    )
