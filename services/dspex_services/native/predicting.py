"""Predictors over our own prompts and HTTP client."""

from __future__ import annotations

from typing import Any

import msgspec

from dspex_bus.signatures import Signature, read_signature

from ..handlers import Step
from ..lm import LMReply, LMRequest
from ..streaming import Layout
from .adapters import chat_messages, json_messages, parse_chat_reply, parse_json_reply
from .errors import ReplyError
from .models import Models, ask


class PredictOptions(msgspec.Struct, frozen=True, kw_only=True):
    """``demos`` are examples: objects with the signature's fields. Address and key of the model are the worker's
    own. ``cache`` keeps the model's replies: seconds, true (an hour, or what the operator set), or false to ask anew;
    without it the operator's table decides."""

    signature: str | dict[str, Any]
    instructions: str | None = None
    demos: list[dict[str, Any]] = []
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    cache: bool | float | None = None


async def predict(models: Models, options: PredictOptions, step: Step, *, reasoning: bool = False) -> dict[str, Any]:
    """The signature's outputs. A reply that does not fit the chat layout is asked for once more as JSON, as in DSPy."""
    signature = read_signature(options.signature, options.instructions)
    if reasoning:
        signature = signature.with_reasoning()
    values = signature.validate_inputs(step.inputs)
    client = await models.get(options.model)

    async def say(messages: list[dict[str, Any]], layout: Layout) -> LMReply:
        request = LMRequest(messages=messages, temperature=options.temperature, max_tokens=options.max_tokens)
        call = step.tokens.call(layout, signature.output_names) if step.tokens is not None else None
        return await ask(client, request, step, cache=options.cache, program=signature.digest, call=call)

    return await _answered(signature, values, options.demos, say)


async def _answered(
    signature: Signature, values: dict[str, Any], demos: list[dict[str, Any]], say: Any
) -> dict[str, Any]:
    reply = await say(chat_messages(signature, values, demos), "chat")
    try:
        return parse_chat_reply(signature, reply.text)
    except ReplyError:
        reply = await say(json_messages(signature, values, demos), "json")
        return parse_json_reply(signature, reply.text)
