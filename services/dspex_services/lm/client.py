"""The thin shell around the wire modules: one HTTP session, one deadline a call, bounded retries."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Self, cast

import msgspec

from dspex_bus.wire import Usage as Used

from . import anthropic, openai
from .deadlines import Deadlines
from .endpoint import Endpoints
from .errors import LMAuth, LMError, LMTimeout, LMUnavailable
from .media import excess
from .retry import delay_before_retry
from .sse import EventStream
from .types import Delta, LMConfig, LMReply, LMRequest, Price
from .wire import Said, Wire, WireCall, bad_reply, failure

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

_WIRES: dict[str, ModuleType] = {"openai": openai, "anthropic": anthropic}
_CONNECT_TIMEOUT_S = 10.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_REST_S = 0.1
_LARGEST_REPLY = 64 * 1024 * 1024

OnDelta = Callable[[Delta], Awaitable[None]]


class LMClient:
    """``async with LMClient(config) as lm: reply = await lm.complete(LMRequest(messages=[…]))``

    Connections are kept and shared by concurrent calls, ``config.max_connections`` at most. Clients with the same
    ``endpoints`` share the limits of their models. ``wire`` is the provider's chat protocol when None. The provider's
    key is read from ``env`` (the process's environment when None) at each call, so that it is never stored here.
    """

    def __init__(
        self,
        config: LMConfig,
        *,
        env: Mapping[str, str] | None = None,
        endpoints: Endpoints | None = None,
        wire: Wire | None = None,
    ) -> None:
        self.config = config
        self._env = os.environ if env is None else env
        self._wire = wire or cast(Wire, _WIRES[config.provider])
        self._key_variable = key_variable(config)
        self._endpoint = (endpoints or Endpoints()).of(config)
        self._base = _base_url(config, self._wire)
        self._proxy = _proxy(self._base)
        self._urls: dict[str, URL] = {}
        self._http: aiohttp.ClientSession | None = None
        self._deadlines: Deadlines | None = None
        self._unanswered: tuple[type[Exception], ...] = ()

    async def __aenter__(self) -> Self:
        import aiohttp  # a worker that calls no model starts sooner without it

        self._deadlines = Deadlines()
        self._unanswered = (aiohttp.ClientError, OSError)
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.config.max_connections),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None
        if self._deadlines is not None:
            self._deadlines.close()
            self._deadlines = None

    async def complete(
        self, request: LMRequest, *, timeout_s: float | None = None, on_delta: OnDelta | None = None
    ) -> LMReply:
        """The model's reply, within ``timeout_s`` (the configuration's when None), waiting and retries included.

        With ``on_delta`` it is streamed: each piece is awaited as it comes, and once one has come there is no retry.
        Raises an LMError: LMTimeout, LMAuth or LMBadRequest at once, the retryable ones after the last attempt.
        """
        if self._http is None:
            raise RuntimeError("enter the client first: async with LMClient(config) as lm")
        limit = timeout_s or self.config.timeout_s
        deadline = time.monotonic() + limit
        call = self._wire.encode(self.config, request, self._key(), stream=on_delta is not None)
        size = len(call.body) - excess(request.messages)
        exchange = _Exchange(self, call, on_delta)
        attempt = 1
        while True:
            try:
                reply = await self._endpoint.run(exchange.attempt, size=size, deadline=deadline, limit_s=limit)
                self._endpoint.expecting.learn(size, reply.usage)
                return reply if self.config.price is None else self._priced(reply, self.config.price)
            except LMTimeout as late:
                late.details["attempts"] = attempt
                raise
            except LMError as error:
                error.details["attempts"] = attempt
                self._hide_key(error)
                left = deadline - time.monotonic()
                delay = delay_before_retry(self.config, error, attempt=attempt, left_s=left, dice=random.random())
                if delay is None or exchange.begun:
                    raise
            await asyncio.sleep(delay)
            attempt += 1

    def expected(self, request: LMRequest) -> Callable[[], Used]:
        """What a call may use, by an estimate that few calls exceed, and that gets better with each reply."""
        expecting = self._endpoint.expecting.of(self.config, request)
        price = self.config.price

        def now() -> Used:
            usage = expecting()
            cost = None if price is None else price.of(usage)
            return Used(calls=1, input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, cost=cost)

        return now

    def _priced(self, reply: LMReply, price: Price) -> LMReply:
        return msgspec.structs.replace(reply, cost=price.of(reply.usage))

    def _url(self, path: str) -> URL:
        url = self._urls.get(path)
        if url is None:
            from yarl import URL

            url = self._urls[path] = URL(self._base + path)
        return url

    def _key(self) -> str | None:
        key = self._env.get(self._key_variable)
        if not key and self.config.base_url is None:
            raise LMAuth(_needs_key(self.config))
        return key

    def _hide_key(self, error: LMError) -> None:
        """Some servers repeat what they were given in what they say of it."""
        key = self._env.get(self._key_variable)
        if key and key in error.message:
            error.args = (error.message.replace(key, "…"),)

    def _unreachable(self, error: BaseException) -> LMUnavailable:
        return LMUnavailable(
            f"no answer from {self._base} ({error or type(error).__name__}): check that the server runs and that "
            "DSPEX_BASE_URL is right",
            details={"provider": self.config.provider},
        )


class _Exchange:
    """One call's bytes, sent as often as it takes. ``begun`` is whether the caller has seen a piece of the reply."""

    def __init__(self, client: LMClient, call: WireCall, on_delta: OnDelta | None) -> None:
        self._client = client
        self._call = call
        self._on_delta = on_delta
        self.begun = False

    async def attempt(self, deadline: float) -> LMReply:
        deadlines = self._client._deadlines
        assert deadlines is not None
        client, call, on_delta = self._client, self._call, self._on_delta
        assert client._http is not None
        with deadlines.until(deadline):
            try:
                response = await client._http.post(
                    client._url(call.path),
                    data=call.body,
                    headers=call.headers,
                    proxy=client._proxy,
                    allow_redirects=False,  # the key is for this address, and no other
                )
                try:
                    if response.status >= 300:
                        body = await _body(response)
                        raise failure(client.config, client._key_variable, response.status, response.headers, body)
                    if on_delta is not None and response.content_type == "text/event-stream":
                        return await self._streamed(response, on_delta)
                    reply = self._read(response, await _body(response))
                finally:
                    if not response.closed:  # read to its end it has given back its connection by itself
                        response.release()
            except client._unanswered as error:
                raise client._unreachable(error) from error
            if on_delta is not None and reply.text:  # a server that does not stream
                await self._tell(Delta(text=reply.text), on_delta)
            return reply

    def _read(self, response: aiohttp.ClientResponse, body: bytes) -> LMReply:
        client = self._client
        try:
            return client._wire.decode(body)
        except Said as said:
            raise failure(client.config, client._key_variable, said.status, response.headers, body) from said

    async def _streamed(self, response: aiohttp.ClientResponse, on_delta: OnDelta) -> LMReply:
        events, assembly = EventStream(), self._client._wire.assembly(self._client.config)
        async for chunk in response.content.iter_any():
            try:
                whole = events.feed(chunk)
            except ValueError as error:
                raise bad_reply(str(error), chunk) from error
            for event in whole:
                for delta in assembly.feed(event):
                    await self._tell(delta, on_delta)
                if assembly.over:  # whatever follows, and however long the server keeps the connection open
                    await _rest(response)
                    return assembly.reply()
        return assembly.reply()

    async def _tell(self, delta: Delta, on_delta: OnDelta) -> None:
        self.begun = True
        await on_delta(delta)


async def _rest(response: aiohttp.ClientResponse) -> None:
    """What a well-behaved server sends after the last event is the end, and the connection is used again."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_REST_S):
            await response.content.readany()


def _body(response: aiohttp.ClientResponse) -> Awaitable[bytes]:
    """The body, of a length that a reply can have."""
    length = response.content_length
    return response.read() if length is not None and length <= _LARGEST_REPLY else _pieces(response)


async def _pieces(response: aiohttp.ClientResponse) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > _LARGEST_REPLY:
            raise bad_reply(f"more than {_LARGEST_REPLY} bytes", pieces[0])
        pieces.append(piece)
    return b"".join(pieces)


class SyncLMClient:
    """The same client for code without an event loop; a private loop keeps the connections between calls.

    ``with SyncLMClient(config) as lm: reply = lm.complete(request)``. One thread at a time; inside a running event
    loop use LMClient.
    """

    def __init__(self, config: LMConfig, *, env: Mapping[str, str] | None = None) -> None:
        self._client = LMClient(config, env=env)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        self._runner.run(self._client.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._client.__aexit__(kind, error, trace))
        self._runner.close()

    def complete(self, request: LMRequest, *, timeout_s: float | None = None) -> LMReply:
        # Runner.run would also swap signal handlers around each call: a fifth of its cost. What an interrupt leaves
        # behind is cancelled when the runner closes.
        return self._runner.get_loop().run_until_complete(self._client.complete(request, timeout_s=timeout_s))


def lacks_key(config: LMConfig, env: Mapping[str, str]) -> str | None:
    """What to do where a provider's own address would be asked without a key."""
    return None if config.base_url is not None or env.get(key_variable(config)) else _needs_key(config)


def _needs_key(config: LMConfig) -> str:
    return (
        f"{config.model} needs a key: set {key_variable(config)}, or set DSPEX_BASE_URL to a server "
        "that needs none (vLLM, Ollama, LM Studio, or dspex's own offline LM)"
    )


def key_variable(config: LMConfig) -> str:
    """The variable of the environment that holds the model's key."""
    return config.key_variable or str(_WIRES[config.provider].KEY_VARIABLE)


def _base_url(config: LMConfig, wire: Wire) -> str:
    """Without a trailing slash; Anthropic's own clients write their address without the version, so add it."""
    base = (config.base_url or wire.DEFAULT_BASE_URL).rstrip("/")
    return f"{base}/v1" if config.provider == "anthropic" and not base.endswith("/v1") else base


def _proxy(base: str) -> str | None:
    """The environment's proxy for this address, looked up once: asking at every call costs more than the call."""
    import urllib.request

    from yarl import URL

    url = URL(base)
    if url.host in _LOOPBACK or urllib.request.proxy_bypass(url.host or ""):
        return None
    return urllib.request.getproxies().get(url.scheme)
