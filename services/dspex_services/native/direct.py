"""A call of a language model without a signature: messages in, the reply out."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from dspex_bus.errors import InvalidRequest
from dspex_bus.wire import Usage

from ..handlers import Step
from ..lm import LMReply, LMRequest, Tool, ToolCall
from ..references import resolved
from .models import Models, ask, usage_of

_FILES = ("url", "data", "file_data")
_ROLES = ("system", "developer", "user", "assistant", "tool")


class LMCall(msgspec.Struct, frozen=True, kw_only=True):
    """``messages`` in the shape of OpenAI's chat, for any provider, what their parts show by reference if you like; or
    ``prompt``, what the user says, and ``system`` before it. ``tools`` have a name, a description and ``parameters``, a
    JSON Schema; what the model asks for is in the output, and nothing is called. ``response_schema`` asks for one JSON
    value that follows a schema, an empty one for any object. Address and key of the model are the worker's own.
    ``cache`` is as for predict."""

    messages: list[dict[str, Any]] = []
    prompt: str | None = None
    system: str | None = None
    model: str | None = None
    temperature: float | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    top_p: float | None = None
    stop: list[str] = []
    tools: list[Tool] = []
    tool_choice: str = "auto"
    response_schema: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    cache: bool | float | None = None


class Called(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call that the model wants. ``arguments`` is the text it wrote where that is no JSON object."""

    id: str
    name: str
    arguments: dict[str, Any] | str


class LMAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``message`` is the reply as a message, to go on from; ``finish_reason`` is ``stop``, ``length``, ``tool_calls``
    or ``content_filter``."""

    text: str
    message: dict[str, Any]
    tool_calls: list[Called]
    finish_reason: str
    reasoning: str
    usage: Usage


async def call_lm(models: Models, call: LMCall, step: Step) -> LMAnswer:
    request = LMRequest(
        messages=await resolved(_messages(call), step.bus, _FILES),
        temperature=call.temperature,
        max_tokens=call.max_tokens,
        top_p=call.top_p,
        stop=call.stop,
        tools=call.tools,
        tool_choice=call.tool_choice,
        response_schema=call.response_schema,
        reasoning_effort=call.reasoning_effort,
    )
    told = step.tokens.call("plain", ["text"]) if step.tokens is not None else None
    reply = await ask(await models.get(call.model), request, step, cache=call.cache, call=told)
    return LMAnswer(
        text=reply.text,
        message=_message(reply),
        tool_calls=[Called(id=one.id, name=one.name, arguments=_arguments(one)) for one in reply.tool_calls],
        finish_reason=reply.finish_reason,
        reasoning=reply.reasoning,
        usage=usage_of(reply),
    )


def _messages(call: LMCall) -> list[dict[str, Any]]:
    for place, message in enumerate(call.messages):
        if message.get("role") not in _ROLES:
            said = f"messages[{place}] has the role {message.get('role')!r}; there are: {', '.join(_ROLES)}"
            raise InvalidRequest(said, code="invalid_input", details={"field": f"messages[{place}].role"})
    made = list(call.messages)
    if call.system is not None:
        made.insert(0, {"role": "system", "content": call.system})
    if call.prompt is not None:
        made.append({"role": "user", "content": call.prompt})
    if not call.messages and call.prompt is None:
        raise InvalidRequest("lm needs 'messages', or a 'prompt'", code="missing_field")
    return made


def _message(reply: LMReply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.tool_calls:
        message["tool_calls"] = [
            {"id": one.id, "type": "function", "function": {"name": one.name, "arguments": one.arguments}}
            for one in reply.tool_calls
        ]
    return message


def _arguments(call: ToolCall) -> dict[str, Any] | str:
    try:
        return call.parsed()
    except ValueError:
        return call.arguments
