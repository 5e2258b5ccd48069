"""Messages in OpenAI's shape as Anthropic's: the system text apart, tool calls and their results as blocks. Pure."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import msgspec

from .errors import LMBadRequest

Turn = dict[str, Any]


def turns(messages: Sequence[Turn]) -> tuple[str, list[Turn]]:
    """The system text, and the turns without it. Neighbouring messages of one role become one turn where one of them
    has blocks: the results of several tool calls must come in the one turn that follows them."""
    system: list[str] = []
    made: list[Turn] = []
    for message in messages:
        role = message["role"]
        if role in ("system", "developer"):
            system.append(_text(message["content"]))
            continue
        turn = {"role": "user" if role == "tool" else role, "content": _content(message)}
        if made and role == "tool" and made[-1]["role"] == "user" and isinstance(made[-1]["content"], list):
            made[-1]["content"] += turn["content"]
        else:
            made.append(turn)
    return "\n\n".join(system), made


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(block["text"] for block in content if block.get("type") == "text")


def _content(message: Turn) -> Any:
    content = message.get("content")
    if message["role"] == "tool":
        return [{"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": _blocks(content)}]
    calls = message.get("tool_calls")
    if not calls:
        return _blocks(content)
    said = [{"type": "text", "text": content}] if isinstance(content, str) and content else _blocks(content) or []
    return [*said, *map(_tool_use, calls)]


def _tool_use(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    try:
        arguments = msgspec.json.decode(function["arguments"] or "{}")
    except msgspec.DecodeError as error:
        raise LMBadRequest(f"the arguments of the tool call {call['id']} are not JSON: {error}") from error
    return {"type": "tool_use", "id": call["id"], "name": function["name"], "input": arguments}


def _blocks(content: Any) -> Any:
    if content is None or isinstance(content, str):
        return content
    try:
        return [_block(block) for block in content]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise LMBadRequest(f"a part of a message is not as OpenAI's API has them: {error!r}") from error


def _block(block: dict[str, Any]) -> dict[str, Any]:
    match block.get("type"):
        case "image_url":
            return {"type": "image", "source": _source(block["image_url"]["url"])}
        case "file":
            return {"type": "document", "source": _document(block["file"])}
        case "input_audio":
            raise LMBadRequest("Anthropic's models take no recordings: give its text, or name another model")
    return block


def _source(url: str) -> dict[str, Any]:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    kind, _, data = url.removeprefix("data:").partition(";base64,")
    return {"type": "base64", "media_type": kind, "data": data}


def _document(file: dict[str, Any]) -> dict[str, Any]:
    """Documents in plain text have a source of their own; those that were uploaded before are not carried."""
    if "file_data" not in file:
        raise LMBadRequest("a file for Anthropic's models is given by its content")
    source = _source(file["file_data"])
    if source["type"] == "base64" and source["media_type"].startswith("text/"):
        text = base64.b64decode(source["data"]).decode(errors="replace")
        return {"type": "text", "media_type": "text/plain", "data": text}
    return source
