"""DSPy's language models over our own HTTP client, with its connections, limits, breaker and retries.

    engine = Engine(Configured())
    lm = engine.lm("openai/gpt-4o-mini", temperature=0.7)

DSPy is told to retry nothing and to cache nothing itself: replies are kept in our cache, which all workers share. Calls
from a running loop run on that loop, calls from threads on loops of their own; the limits are the same for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import dspy
from dspy import lm15

from ..cache import Cache
from ..lm import (
    Caching,
    Configured,
    Delta,
    LMClient,
    LMConfig,
    LMError,
    LMReply,
    LMRequest,
    OnDelta,
    complete,
    key_variable,
    ttl_of,
)
from .blocking import BlockingCalls
from .canonical import StreamEvents, canonical_error, request_of, response_of
from .metering import Meter
from .telling import Telling

_PIECES = 64


@dataclass(frozen=True)
class Calling:
    """How the calls of one step use the cache, and who counts what they cost. ``ttl`` is as in
    :func:`dspex_services.lm.ttl_of`. ``telling`` says the replies' tokens."""

    ttl: bool | float | None = None
    program: str = ""
    renew: bool = False
    meter: Meter | None = None
    telling: Telling | None = None


_USUAL = Calling()
_CALLING = "dspex_calling"
"""DSPy's settings, unlike a context variable, reach the threads that DSPy starts."""

_rollout: ContextVar[int | None] = ContextVar("dspex_rollout", default=None)


class _Rollouts(dspy.utils.callback.BaseCallback):  # type: ignore[misc]
    """DSPy tells samples of one question apart by a number that it keeps from engines; our cache must know it."""

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        given = inputs.get("kwargs") or {}
        _rollout.set(given.get("rollout_id", instance.kwargs.get("rollout_id")))


class Engine:
    """The asynchronous engine of every model; :meth:`lm` pairs it with a model's blocking one. With a ``cache``,
    replies are kept as the operator's table of models says, or as :meth:`calling` does."""

    def __init__(self, configured: Configured) -> None:
        self._configured = configured
        self._calls = BlockingCalls()
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, LMClient]] = WeakKeyDictionary()
        self._likes: dict[str, Any] = {}
        self.cache: Cache | None = None

    def lm(self, model: str, **parameters: Any) -> Any:
        """A ``dspy.LM`` over this engine, which answers DSPy's questions about the model as DSPy would itself. Raises
        LMBadRequest for a model without a known provider."""
        blocking = BlockingEngine(self, self._calls, self._like(model))
        return dspy.LM(
            model,
            engine=blocking,
            async_engine=self,
            num_retries=0,
            cache=False,
            callbacks=[_Rollouts()],
            **parameters,
        )

    @contextmanager
    def calling(self, how: Calling) -> Iterator[None]:
        """The calls made within use the cache like that: in this task, what it starts, and DSPy's own threads."""
        with dspy.context(**{_CALLING: how}):
            yield

    async def complete(self, request: lm15.Request) -> lm15.Response:
        try:
            asked = request_of(request)
        except lm15.UnsupportedFeatureError:
            return await self._by_dspys_own(request)
        return response_of(request, await self._answer(request.model, asked))

    async def stream(self, request: lm15.Request) -> AsyncIterator[Any]:
        """The reply's events as they come. Closing it early ends the call."""
        try:
            asked = request_of(request)
        except lm15.UnsupportedFeatureError:
            for event in lm15.response_to_events(await self._by_dspys_own(request)):
                yield event
            return
        pieces: asyncio.Queue[Delta | None] = asyncio.Queue(_PIECES)
        call = asyncio.create_task(self._tell(request.model, asked, pieces))
        try:
            events = StreamEvents(request)
            yield events.start()
            while (piece := await _next(pieces, call)) is not None:
                for event in events.delta(piece):
                    yield event
            for event in events.end(await call):
                yield event
        finally:
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

    async def _tell(self, model: str, asked: LMRequest, pieces: asyncio.Queue[Delta | None]) -> LMReply:
        try:
            return await self._answer(model, asked, pieces.put)
        finally:
            with suppress(asyncio.QueueFull):  # who reads what is in it looks at the task after that
                pieces.put_nowait(None)

    async def _answer(self, model: str, asked: LMRequest, on_delta: OnDelta | None = None) -> LMReply:
        try:
            client = await self._client(model)
            how: Calling = dspy.settings.get(_CALLING, _USUAL)
            if on_delta is None and how.telling is not None:
                on_delta = how.telling.listener()
            caching = self._caching(client.config, how)
            return await complete(client, asked, caching, on_delta=on_delta, purse=how.meter)
        except LMError as error:
            raise canonical_error(error) from error

    def _caching(self, config: LMConfig, how: Calling) -> Caching | None:
        ttl_s = ttl_of(how.ttl, config)
        if self.cache is None or ttl_s is None:
            return None
        return Caching(self.cache, ttl_s, how.program, _rollout.get(), how.renew)

    async def _client(self, model: str) -> LMClient:
        clients = self._clients.setdefault(asyncio.get_running_loop(), {})
        client = clients.get(model)
        if client is None:
            client = LMClient(self._config(model), env=self._configured.env, endpoints=self._configured.endpoints)
            clients[model] = await client.__aenter__()
        return client

    async def _by_dspys_own(self, request: lm15.Request) -> lm15.Response:
        """What our client does not carry: files by their ids, log probabilities."""
        with dspy.context(callbacks=[], usage_tracker=None, disable_history=True, send_stream=None):
            return await self._like(request.model).acall(request)

    def _like(self, model: str) -> Any:
        """The model over DSPy's own engine."""
        like = self._likes.get(model)
        if like is None:
            config = self._config(model)
            like = self._likes[model] = dspy.LM(
                model, cache=False, timeout=config.timeout_s, **self._connection(config)
            )
        return like

    def _config(self, model: str) -> LMConfig:
        config = self._configured.get(model)
        assert config is not None, "a model named has a configuration"
        return config

    def _connection(self, config: LMConfig) -> dict[str, str]:
        """What DSPy needs to reach the model itself. A server of one's own may need no key, but DSPy insists on one."""
        key = self._configured.env.get(key_variable(config)) or ("none" if config.base_url else None)
        address = {"api_base": config.base_url} if config.base_url else {}
        return {**address, **({"api_key": key} if key else {})}

    async def aclose(self) -> None:
        """Close this loop's connections, and those of the calls from threads."""
        await self._close_here()
        await asyncio.to_thread(self._calls.close, self._close_here)

    async def _close_here(self) -> None:
        for client in self._clients.pop(asyncio.get_running_loop(), {}).values():
            await client.__aexit__(None, None, None)
        for like in self._likes.values():
            await like.aclose()


async def _next(pieces: asyncio.Queue[Delta | None], call: asyncio.Task[LMReply]) -> Delta | None:
    """The next piece, None after the last."""
    return None if call.done() and pieces.empty() else await pieces.get()


class BlockingEngine:
    """The engine for code in threads. It declares what DSPy knows of the model, a ``dspy.LM`` ``like`` it."""

    def __init__(self, engine: Engine, calls: BlockingCalls, like: Any) -> None:
        self._engine = engine
        self._calls = calls
        self.supports_function_calling = like.supports_function_calling
        self.supports_reasoning = like.supports_reasoning
        self.supports_response_schema = like.supports_response_schema
        self.supported_params = frozenset(like.supported_params)

    def complete(self, request: lm15.Request) -> lm15.Response:
        return self._calls.run(lambda: self._engine.complete(request))

    def stream(self, request: lm15.Request) -> Iterator[Any]:
        return self._calls.iterate(lambda: self._engine.stream(request))
