"""The models that a native pool's steps ask: one client each, and what every call owes its step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager

from dspex_bus.wire import Usage

from ..errors import StepError
from ..handlers import Step
from ..lm import Caching, Configured, LMClient, LMConfig, LMReply, LMRequest, complete, ttl_of
from ..streaming import Call


class Models:
    """A client for each model a step names, all with the worker's addresses, keys, limits and connections."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.configured = Configured(environment)
        self._clients: dict[str, LMClient] = {}

    async def get(self, model: str | None) -> LMClient:
        """Raises StepError ``lm_not_configured`` where neither step nor environment names a model."""
        config = self.configured.get(model)
        if config is None:
            raise StepError(
                "this worker has no language model: set DSPEX_MODEL and its key (OPENAI_API_KEY or ANTHROPIC_API_KEY), "
                "or DSPEX_BASE_URL, in the pool's environment",
                code="lm_not_configured",
            )
        client = self._clients.get(config.model)
        if client is None:
            client = LMClient(config, env=self.configured.env, endpoints=self.configured.endpoints)
            self._clients[config.model] = await client.__aenter__()
        return client

    async def close(self) -> None:
        for client in self._clients.values():
            await client.__aexit__(None, None, None)
        self._clients.clear()


async def ask(
    client: LMClient,
    request: LMRequest,
    step: Step,
    *,
    cache: bool | float | None,
    program: str = "",
    call: Call | None = None,
) -> LMReply:
    """The model's reply within the step's time and budget, its usage recorded. A second attempt asks anew: what is kept
    may be what the first one failed on. ``call`` is told the reply as it comes."""
    config = client.config
    hear = call.hear if call is not None else None
    left_s = max(0.001, step.remaining_s)
    ttl_s = ttl_of(cache, config)
    caching = None
    if ttl_s is not None and step.cache is not None:
        caching = Caching(step.cache, ttl_s, program=program, renew=step.attempt > 1)
    if caching is None and not step.limited:  # as most calls are: the shortest way
        reply = await client.complete(request, timeout_s=left_s, on_delta=hear)
        step.record_usage(usage_of(reply))
    else:
        reply = await complete(client, request, caching, timeout_s=left_s, on_delta=hear, purse=StepPurse(step))
    if call is not None:
        call.end()
    return reply


class StepPurse:
    """A step's budgets."""

    __slots__ = ("_step",)

    def __init__(self, step: Step) -> None:
        self._step = step

    @property
    def limited(self) -> bool:
        return self._step.limited

    def reserve(self, config: LMConfig, expected: Callable[[], Usage]) -> AbstractAsyncContextManager[None]:
        return self._step.reserve(expected, model=config.model, priced=config.price is not None)

    def pay(self, reply: LMReply) -> None:
        self._step.record_usage(usage_of(reply))


def usage_of(reply: LMReply) -> Usage:
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
