"""The thin shell around the wire modules: one HTTP session, one deadline a call, bounded retries."""

from __future__ import annotations

import asyncio
import os
import random
import time
import urllib.request
from collections.abc import Mapping
from types import ModuleType, TracebackType
from typing import Self, cast

import aiohttp
from yarl import URL

from . import anthropic, openai
from .errors import LMAuth, LMError, LMTimeout, LMUnavailable
from .retry import delay_before_retry
from .types import LMConfig, LMReply, LMRequest
from .wire import Wire, failure

_WIRES: dict[str, ModuleType] = {"openai": openai, "anthropic": anthropic}
_CONNECT_TIMEOUT_S = 10.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class LMClient:
    """``async with LMClient(config) as lm: reply = await lm.complete(LMRequest(messages=[…]))``

    Connections are kept and shared by concurrent calls, ``config.max_connections`` at most. The provider's key is
    read from ``env`` (the process's environment when None) at each call, so that it is never stored here.
    """

    def __init__(self, config: LMConfig, *, env: Mapping[str, str] | None = None) -> None:
        self.config = config
        self._env = os.environ if env is None else env
        self._wire = cast(Wire, _WIRES[config.provider])
        self._base = _base_url(config, self._wire)
        self._proxy = _proxy(self._base)
        self._urls: dict[str, URL] = {}
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.config.max_connections),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def complete(self, request: LMRequest, *, timeout_s: float | None = None) -> LMReply:
        """The model's reply, within ``timeout_s`` (the configuration's when None), retries included.

        Raises an LMError: LMTimeout, LMAuth or LMBadRequest at once, the retryable ones after the last attempt.
        """
        limit = timeout_s or self.config.timeout_s
        deadline = time.monotonic() + limit
        attempt = 1
        while True:
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    return await self._attempt(request)
            except TimeoutError as late:
                raise self._too_late(limit, attempt) from late
            except LMError as error:
                error.details["attempts"] = attempt
                left = deadline - time.monotonic()
                delay = delay_before_retry(self.config, error, attempt=attempt, left_s=left, dice=random.random())
                if delay is None:
                    raise
            await asyncio.sleep(delay)
            attempt += 1

    async def _attempt(self, request: LMRequest) -> LMReply:
        if self._http is None:
            raise RuntimeError("enter the client first: async with LMClient(config) as lm")
        call = self._wire.encode(self.config, request, self._key())
        url = self._urls.get(call.path)
        if url is None:
            url = self._urls[call.path] = URL(self._base + call.path)
        try:
            async with self._http.post(url, data=call.body, headers=call.headers, proxy=self._proxy) as response:
                body = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error) from error
        if not response.ok:
            raise failure(self.config, self._wire.KEY_VARIABLE, response.status, response.headers, body)
        return self._wire.decode(body)

    def _key(self) -> str | None:
        key = self._env.get(self._wire.KEY_VARIABLE)
        if not key and self.config.base_url is None:
            raise LMAuth(
                f"{self.config.model} needs a key: set {self._wire.KEY_VARIABLE}, or set DSPEX_BASE_URL to a server "
                "that needs none (vLLM, Ollama, LM Studio, or dspex's own offline LM)"
            )
        return key

    def _unreachable(self, error: BaseException) -> LMUnavailable:
        return LMUnavailable(
            f"no answer from {self._base} ({error or type(error).__name__}): check that the server runs and that "
            "DSPEX_BASE_URL is right",
            details={"provider": self.config.provider},
        )

    def _too_late(self, limit: float, attempt: int) -> LMTimeout:
        return LMTimeout(
            f"{self.config.model} did not answer within {limit:g} s: allow more time or ask for a shorter answer",
            details={"provider": self.config.provider, "attempts": attempt},
        )


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


def _base_url(config: LMConfig, wire: Wire) -> str:
    """Without a trailing slash; Anthropic's own clients write their address without the version, so add it."""
    base = (config.base_url or wire.DEFAULT_BASE_URL).rstrip("/")
    return f"{base}/v1" if config.provider == "anthropic" and not base.endswith("/v1") else base


def _proxy(base: str) -> str | None:
    """The environment's proxy for this address, looked up once: asking at every call costs more than the call."""
    url = URL(base)
    if url.host in _LOOPBACK or urllib.request.proxy_bypass(url.host or ""):
        return None
    return urllib.request.getproxies().get(url.scheme)
