"""One system with a native and a DSPy pool, and a model that remembers what it was asked."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
pytest.importorskip("dspy")
pytest.importorskip("sklearn")

import dspex
from dspex_bus import EmbeddedServer, NatsBus
from dspex_router import Router
from dspex_services.dspy.model import Models as DspyModels
from dspex_services.dspy.pool import dspy_handlers
from dspex_services.dspy.programs import Programs
from dspex_services.native.models import Models
from dspex_services.native.pool import native_handlers
from dspex_services.offline_lm import MODEL, answer, embed, protocol
from dspex_services.worker import Worker, WorkerConfig

FOLDER = Path(__file__).parent.parent.parent.parent / "sdk" / "dspex" / "demo" / "documents"
HITS = [
    {"pid": 7, "rank": 1, "score": 21.5, "text": "Okapi | The okapi lives in the Congo.", "prob": 0.6},
    {"pid": 4, "rank": 2, "score": 19.0, "text": "Zebras live on plains.", "prob": 0.4},
]


class World:
    """``asked`` are the bodies of the calls that came to the model; ``script``, where there is one, answers for it."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.script: list[str] = []
        self.client: dspex.Client

    async def complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        text = self.script.pop(0) if self.script else answer(body["messages"], body.get("response_format"))
        return web.json_response(protocol.chat_completion(body["messages"], text, cut=False))

    async def embed(self, request: web.Request) -> web.Response:
        texts = (await request.json())["input"]
        data = [{"index": place, "embedding": embed(text)} for place, text in enumerate(texts)]
        return web.json_response({"data": data, "model": MODEL, "usage": {"prompt_tokens": len(texts)}})

    async def colbert(self, request: web.Request) -> web.Response:
        posted = request.method == "POST"
        asked = await request.json() if posted else request.query
        if asked["query"] == "fail":
            return web.json_response({"error": True, "message": "the index is being built"})
        hits = [{**hit, "long_text": hit["text"]} if posted else hit for hit in HITS]
        return web.json_response({"query": asked["query"], "topk": hits[: int(asked["k"])]})


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSPEX_DOCUMENTS", str(FOLDER))
        yield


@pytest.fixture(scope="module")
async def world(environment: None) -> AsyncIterator[World]:
    world = World()
    application = web.Application()
    application.router.add_post("/v1/chat/completions", world.complete)
    application.router.add_post("/v1/embeddings", world.embed)
    application.router.add_route("*", "/colbert", world.colbert)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    told = {"DSPEX_MODEL": f"openai/{MODEL}", "DSPEX_BASE_URL": f"{address}/v1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSPEX_COLBERT_URL", f"{address}/colbert")
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(EmbeddedServer())
            pools = {"native": native_handlers(Models(told)), "dspy": dspy_handlers(Programs(DspyModels(told)))}
            buses = {
                name: await stack.enter_async_context(NatsBus(server.url, name=name)) for name in ("router", *pools)
            }
            group = await stack.enter_async_context(anyio.create_task_group())
            await group.start(Router(buses["router"]).run)
            for name, handlers in pools.items():
                await group.start(Worker(buses[name], handlers, WorkerConfig(pool=name, drain_s=1)).run)
            world.client = await stack.enter_async_context(dspex.connect(server.url))
            yield world
            group.cancel_scope.cancel()
    await runner.cleanup()
