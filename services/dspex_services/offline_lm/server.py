"""The offline LM behind HTTP: OpenAI's and Anthropic's protocols on one loopback port."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
from aiohttp import web

from . import protocol
from .answer import MODEL, answer
from .embedding import DIMENSIONS, embed
from .faults import Faults

_LARGEST_REQUEST = 64 * 1024 * 1024
_STOP_TIMEOUT_S = 1.0
_MOST_DIMENSIONS = 4096

_Messages = list[dict[str, Any]]
T = TypeVar("T")


class _Request(msgspec.Struct):
    """What both protocols' requests have that we read; everything else is ignored."""

    messages: _Messages
    model: str = MODEL
    stream: bool = False
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    response_format: dict[str, Any] | None = None
    stream_options: dict[str, Any] | None = None
    system: str | _Messages | None = None


class _EmbeddingRequest(msgspec.Struct):
    input: str | list[str]
    dimensions: int | None = None


class OfflineLM:
    """``async with OfflineLM() as server:`` then any client of either protocol at ``server.base_url``.

    Port 0 takes a free one. ``base_url`` ends in ``/v1``. Its answers are extracted from the prompt by rules (every
    reply names its model ``offline-extractive``); ``faults`` describes model names that misbehave for tests.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._host = host
        self._port = port
        self._faults = Faults()
        self._runner: web.AppRunner | None = None

    @property
    def base_url(self) -> str:
        if self._runner is None:
            raise RuntimeError("the offline LM is not running: async with OfflineLM() as server")
        host, port = self._runner.addresses[0][:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"

    async def __aenter__(self) -> Self:
        runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=_STOP_TIMEOUT_S)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=_LARGEST_REQUEST)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/messages", self._message)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_get("/v1/models", self._models)
        return app

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked = await _read(request, _Request)
        if fault := await self._faults.strike(request, asked.model):
            return fault
        limit = asked.max_completion_tokens or asked.max_tokens
        text, cut = protocol.cut_to(answer(asked.messages, asked.response_format), limit)
        if asked.stream:
            usage = bool((asked.stream_options or {}).get("include_usage"))
            return await _stream(request, protocol.chat_chunks(asked.messages, text, cut=cut, usage=usage))
        return web.json_response(protocol.chat_completion(asked.messages, text, cut=cut))

    async def _message(self, request: web.Request) -> web.StreamResponse:
        asked = await _read(request, _Request)
        if fault := await self._faults.strike(request, asked.model):
            return fault
        messages = [{"role": "system", "content": asked.system}, *asked.messages] if asked.system else asked.messages
        text, cut = protocol.cut_to(answer(messages), asked.max_tokens)
        if asked.stream:
            return await _stream(request, protocol.message_events(messages, text, cut=cut))
        return web.json_response(protocol.message(messages, text, cut=cut))

    async def _embeddings(self, request: web.Request) -> web.Response:
        asked = await _read(request, _EmbeddingRequest)
        dimensions = min(max(asked.dimensions or DIMENSIONS, 1), _MOST_DIMENSIONS)
        inputs = [asked.input] if isinstance(asked.input, str) else asked.input
        data = [
            {"object": "embedding", "index": index, "embedding": embed(text, dimensions)}
            for index, text in enumerate(inputs)
        ]
        tokens = sum(protocol.count_tokens(text) for text in inputs)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return web.json_response({"object": "list", "model": MODEL, "data": data, "usage": usage})

    async def _models(self, request: web.Request) -> web.Response:
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "dspex"}
        return web.json_response({"object": "list", "data": [model]})


async def _read(request: web.Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        body = {"error": {"message": f"malformed request: {error}", "type": "invalid_request_error"}}
        raise web.HTTPBadRequest(text=msgspec.json.encode(body).decode(), content_type="application/json") from error


async def _stream(request: web.Request, events: Iterator[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    for event in events:
        await response.write(event)
    await response.write_eof()
    return response


async def main(host: str = "127.0.0.1", port: int = 0) -> None:
    """Serve until cancelled; the first line on standard output is the base URL."""
    async with OfflineLM(host=host, port=port) as server:
        print(server.base_url, flush=True)
        await asyncio.Event().wait()
