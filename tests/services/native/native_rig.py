"""A step as a handler sees it, and servers that speak the protocols of search services."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from anyio import to_thread

from dspex_bus import MemoryBus
from dspex_services.handlers import Handlers, Step


def make_step(bus: Any = None, *, seconds: float = 20.0, **fields: Any) -> Step:
    async def say(note: str, fraction: float | None) -> None:
        return None

    async def thread(function: Callable[[], Any]) -> Any:
        return await to_thread.run_sync(function)

    known: dict[str, Any] = {
        "session": "s",
        "node": "0",
        "attempt": 1,
        "worker": "w",
        "inputs": {},
        "options": {},
        "bus": bus or MemoryBus(),
        "clock": time.monotonic,
        "ends_at": time.monotonic() + seconds,
        "say": say,
        "thread": thread,
    }
    return Step(**{**known, **fields})


async def outputs_of(handlers: Handlers, name: str, step: Step) -> dict[str, Any]:
    """What a worker would send of what the handler returns for a step."""
    handler = handlers.get(name)
    returned = handler.function(*handler.arguments(step.inputs, step.options, step))
    outputs, _ = handler.outputs(await returned if handler.asynchronous else returned)
    return outputs


@asynccontextmanager
async def serving(answer: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    """The address of a server on this machine that answers every request so."""

    async def handle(request: web.Request) -> web.StreamResponse:
        made = await answer(request)
        return made if isinstance(made, web.StreamResponse) else web.json_response(made)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
