"""The two wire protocols as the server speaks them: bodies of answers and of their streamed parts. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .answer import MODEL
from .words import words

Body = dict[str, Any]

_PIECE = re.compile(r"\S+\s*|\s+")


def count_tokens(text: str) -> int:
    """Words, near enough for accounts and budgets; a real tokenizer counts about a third more."""
    return len(words(text))


def _tokens_in(messages: Sequence[Mapping[str, Any]]) -> int:
    return sum(count_tokens(json.dumps(message.get("content") or "", ensure_ascii=False)) for message in messages)


def _id(prefix: str, text: str) -> str:
    return f"{prefix}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def cut_to(text: str, max_tokens: int | None) -> tuple[str, bool]:
    """``text`` limited to ``max_tokens`` pieces, and whether that cut it."""
    pieces = _PIECE.findall(text)
    if not max_tokens or len(pieces) <= max_tokens:
        return text, False
    return "".join(pieces[:max_tokens]), True


def chat_completion(messages: Sequence[Mapping[str, Any]], text: str, *, cut: bool) -> Body:
    return {
        "id": _id("chatcmpl", text),
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "length" if cut else "stop",
            }
        ],
        "usage": _openai_usage(messages, text),
    }


def _openai_usage(messages: Sequence[Mapping[str, Any]], text: str) -> Body:
    given, written = _tokens_in(messages), count_tokens(text)
    return {"prompt_tokens": given, "completion_tokens": written, "total_tokens": given + written}


def chat_chunks(messages: Sequence[Mapping[str, Any]], text: str, *, cut: bool, usage: bool) -> Iterator[bytes]:
    """Server-sent events, a word each; the last ones carry the finish reason and, where asked for, the usage."""
    frame = {"id": _id("chatcmpl", text), "object": "chat.completion.chunk", "created": 0, "model": MODEL}

    def event(delta: Body, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _sse({**frame, "choices": [choice]})

    yield event({"role": "assistant", "content": ""})
    for piece in _PIECE.findall(text):
        yield event({"content": piece})
    yield event({}, "length" if cut else "stop")
    if usage:
        yield _sse({**frame, "choices": [], "usage": _openai_usage(messages, text)})
    yield b"data: [DONE]\n\n"


def message(messages: Sequence[Mapping[str, Any]], text: str, *, cut: bool) -> Body:
    return {
        "id": _id("msg", text),
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "max_tokens" if cut else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": _tokens_in(messages), "output_tokens": count_tokens(text)},
    }


def message_events(messages: Sequence[Mapping[str, Any]], text: str, *, cut: bool) -> Iterator[bytes]:
    whole = message(messages, text, cut=cut)
    opening = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 0}}
    yield _named("message_start", {"message": opening})
    yield _named("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
    for piece in _PIECE.findall(text):
        yield _named("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": piece}})
    yield _named("content_block_stop", {"index": 0})
    ending = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield _named("message_delta", {"delta": ending, "usage": {"output_tokens": whole["usage"]["output_tokens"]}})
    yield _named("message_stop", {})


def _sse(body: Body) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def _named(kind: str, body: Body) -> bytes:
    return f"event: {kind}\n".encode() + _sse({"type": kind, **body})
