"""A model's replies, kept: the same question to the same model is asked once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from dspex_bus.errors import DspexError
from dspex_bus.wire import Usage as Used

from ..cache import Cache, Made, key
from .client import LMClient, OnDelta
from .errors import LMError, LMTimeout
from .types import Delta, LMConfig, LMReply, LMRequest, Usage

T = TypeVar("T")

DEFAULT_TTL_S = 3600.0
_GRACE_S = 0.5
_WHOLE = ("stop", "tool_calls")

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(LMReply).decode


class Caching(NamedTuple):
    """How one call uses the cache. ``program`` names what asks, such as an optimized program's digest; ``rollout``
    tells samples of one question apart; ``renew`` takes nothing that was kept before."""

    cache: Cache
    ttl_s: float
    program: str = ""
    rollout: int | None = None
    renew: bool = False


def ttl_of(wanted: float | bool | None, config: LMConfig) -> float | None:
    """Seconds to keep a reply, None for a call that bypasses the cache. ``wanted`` is the call's own word: seconds,
    True or False; None leaves it to the model's configuration."""
    if wanted is None:
        return config.cache_s
    if wanted is True:
        return config.cache_s or DEFAULT_TTL_S
    return float(wanted) or None


class Purse(Protocol):
    """Who pays for a call."""

    @property
    def limited(self) -> bool:
        """Whether anything need be reserved."""

    def reserve(self, config: LMConfig, expected: Callable[[], Used]) -> AbstractAsyncContextManager[None]:
        """Around a call of the model. Raises a DspexError where this caller may not make it."""

    def pay(self, reply: LMReply) -> None:
        """Once for each reply, within what is reserved for it where it is not from the cache."""


async def _asked(
    client: LMClient, request: LMRequest, purse: Purse | None, timeout_s: float | None, on_delta: OnDelta | None
) -> LMReply:
    if purse is None:
        return await client.complete(request, timeout_s=timeout_s, on_delta=on_delta)
    if not purse.limited:
        reply = await client.complete(request, timeout_s=timeout_s, on_delta=on_delta)
        purse.pay(reply)
        return reply
    async with purse.reserve(client.config, client.expected(request)):
        reply = await client.complete(request, timeout_s=timeout_s, on_delta=on_delta)
        purse.pay(reply)
        return reply


class _Own(Exception):
    """An error that is this caller's alone: it had less time than others may have, or nothing left to spend."""

    def __init__(self, error: DspexError) -> None:
        self.error = error


async def complete(
    client: LMClient,
    request: LMRequest,
    caching: Caching | None,
    *,
    timeout_s: float | None = None,
    on_delta: OnDelta | None = None,
    purse: Purse | None = None,
) -> LMReply:
    """Like ``client.complete``. A reply that is not from this very call is ``cached`` and has used nothing; only whole
    ones are kept."""
    if caching is None:
        return await _asked(client, request, purse, timeout_s, on_delta)
    name = _key(client.config, request, caching)
    if not caching.renew and (kept := caching.cache.peek(name, caching.ttl_s)) is not None:
        return await _saved(kept, purse, on_delta)
    own: list[LMReply] = []

    async def make() -> Made:
        try:
            reply = await _asked(client, request, purse, timeout_s, on_delta)
        except LMTimeout as late:
            raise _Own(late) from late
        except LMError:
            raise
        except DspexError as refused:
            raise _Own(refused) from refused
        own.append(reply)
        return Made(_encode(reply), reply.finish_reason in _WHOLE)

    limit = timeout_s or client.config.timeout_s
    try:
        async with asyncio.timeout(limit + _GRACE_S):
            found = await _at_home(
                caching.cache,
                make,
                lambda make: caching.cache.fetch(name, make, ttl_s=caching.ttl_s, renew=caching.renew),
            )
    except _Own as ours:
        raise ours.error from None
    except TimeoutError as late:
        raise LMTimeout(
            f"another call with the same question to {client.config.model} did not end within {limit:g} s",
            details={"provider": client.config.provider},
        ) from late
    return own[0] if own else await _saved(found.value, purse, on_delta)


def _key(config: LMConfig, request: LMRequest, caching: Caching) -> str:
    settings = (config.temperature, config.max_tokens, config.structured_output)
    return key("lm", config.model, config.base_url, settings, request, caching.program, caching.rollout)


async def _saved(data: bytes, purse: Purse | None, on_delta: OnDelta | None) -> LMReply:
    reply = msgspec.structs.replace(_decode(data), cached=True, usage=Usage(), cost=None)
    if purse is not None:
        purse.pay(reply)
    if on_delta is not None:
        if reply.reasoning:
            await on_delta(Delta(reasoning=reply.reasoning))
        if reply.text:
            await on_delta(Delta(text=reply.text))
        for place, call in enumerate(reply.tool_calls):
            await on_delta(Delta(tool=place, id=call.id, name=call.name, arguments=call.arguments))
    return reply


async def _at_home(
    cache: Cache,
    make: Callable[[], Awaitable[Made]],
    fetch: Callable[[Callable[[], Awaitable[Made]]], Coroutine[Any, Any, T]],
) -> T:
    """Fetch on the cache's own event loop, and make on this one."""
    here, home = asyncio.get_running_loop(), cache.loop
    if home is None or home is here:
        return await fetch(make)

    async def make_there() -> Made:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_awaited(make), here))

    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(fetch(make_there), home))


async def _awaited(make: Callable[[], Awaitable[Made]]) -> Made:
    return await make()
