"""Predictors over our own prompts and HTTP client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from dspex_bus.signatures import Signature, read_signature
from dspex_bus.wire import Usage

from ..errors import StepError
from ..handlers import Step
from ..lm import Caching, Configured, Endpoints, LMClient, LMConfig, LMReply, LMRequest, complete, ttl_of
from .adapters import chat_messages, json_messages, parse_chat_reply, parse_json_reply
from .errors import ReplyError


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


class Models:
    """A client for each model a step names, all with the worker's addresses, keys, limits and connections."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._configured = Configured(environment)
        self._endpoints = Endpoints()
        self._clients: dict[str, LMClient] = {}

    async def get(self, model: str | None) -> LMClient:
        """Raises StepError ``lm_not_configured`` where neither step nor environment names a model."""
        config = self._configured.get(model)
        if config is None:
            raise StepError(
                "this worker has no language model: set DSPEX_MODEL and its key (OPENAI_API_KEY or ANTHROPIC_API_KEY), "
                "or DSPEX_BASE_URL, in the pool's environment",
                code="lm_not_configured",
            )
        client = self._clients.get(config.model)
        if client is None:
            client = LMClient(config, env=self._configured.env, endpoints=self._endpoints)
            self._clients[config.model] = await client.__aenter__()
        return client

    async def close(self) -> None:
        for client in self._clients.values():
            await client.__aexit__(None, None, None)
        self._clients.clear()


async def predict(models: Models, options: PredictOptions, step: Step, *, reasoning: bool = False) -> dict[str, Any]:
    """The signature's outputs. A reply that does not fit the chat layout is asked for once more as JSON, as in DSPy."""
    signature = read_signature(options.signature, options.instructions)
    if reasoning:
        signature = signature.with_reasoning()
    values = signature.validate_inputs(step.inputs)
    client = await models.get(options.model)
    caching = _caching(options, client.config, signature, step)

    async def ask(messages: list[dict[str, Any]]) -> LMReply:
        request = LMRequest(messages=messages, temperature=options.temperature, max_tokens=options.max_tokens)
        reply = await complete(client, request, caching, timeout_s=max(0.001, step.remaining_s))
        step.record_usage(_usage(reply))
        return reply

    return await _answered(signature, values, options.demos, ask)


async def _answered(
    signature: Signature, values: dict[str, Any], demos: list[dict[str, Any]], ask: Any
) -> dict[str, Any]:
    reply = await ask(chat_messages(signature, values, demos))
    try:
        return parse_chat_reply(signature, reply.text)
    except ReplyError:
        reply = await ask(json_messages(signature, values, demos))
        return parse_json_reply(signature, reply.text)


def _caching(options: PredictOptions, config: LMConfig, signature: Signature, step: Step) -> Caching | None:
    """A second attempt asks anew: what is kept may be what the first one failed on."""
    ttl_s = ttl_of(options.cache, config)
    if ttl_s is None or step.cache is None:
        return None
    return Caching(step.cache, ttl_s, program=signature.digest, renew=step.attempt > 1)


def _usage(reply: LMReply) -> Usage:
    if reply.cached:
        return Usage(saved_calls=1, model=reply.model)
    return Usage(
        calls=1,
        input_tokens=reply.usage.input_tokens,
        output_tokens=reply.usage.output_tokens,
        cached_tokens=reply.usage.cached_tokens,
        model=reply.model,
        cost=reply.cost,
    )
