"""A whole system in memory, for unit tests of pipelines and handlers: no server, no other process, nothing on disk.

    async def test_the_report() -> None:
        async with dspex.testing.system(handlers, stubs={"predict": {"answer": "42"}}) as dx:
            result = await dx.run(report, {"question": "What is 6 times 7?"})
        assert result.output == {"text": "It is 42."}

The router, the workers and the native handlers are the real ones; only the bus is another. It says nothing of killed
processes and of servers that are away.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio

from dspex_bus import MemoryBus, MemoryServer
from dspex_bus.wire import HandlerInfo
from dspex_router import Router, RouterConfig
from dspex_services.handlers import Handlers, Step
from dspex_services.native.models import Models
from dspex_services.native.pool import native_handlers
from dspex_services.worker import Worker, WorkerConfig

from .client import Client

__all__ = ["Stub", "system"]

Stub = Mapping[str, Any] | Callable[[dict[str, Any]], Any]
"""The outputs of a step, or a function of its inputs that returns them or raises, such as a ``unittest.mock.Mock``."""

_GRACE_S = 0.2
_DRAIN_S = 0.5


@asynccontextmanager
async def system(
    handlers: Handlers | Mapping[str, Handlers] | None = None,
    *,
    stubs: Mapping[str, Stub] | None = None,
    offline_lm: bool = False,
) -> AsyncIterator[Client]:
    """A client of a system with the native handlers and ``handlers``: those of a pool that is called ``handlers``, or
    of several pools by their names.

    ``stubs`` stand for handlers and modules by name (``predict``, ``dspy.ChainOfThought``, ``shop.stock``), which are
    then not run; a step of one is checked as its own would be. Without ``offline_lm`` there is no model, and a step
    that asks one fails with ``lm_not_configured``.
    """
    ready, over = anyio.Event(), anyio.Event()
    server = MemoryServer()
    # In a task of its own: what a test raises is the test's, and nobody's task group wraps it.
    serving = asyncio.create_task(_serve(server, _named(handlers), stubs or {}, offline_lm, ready, over))
    waiting = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            async with MemoryBus(server, name="test") as bus:
                yield Client(bus)
    finally:
        waiting.cancel()
        over.set()
        await serving


def _named(handlers: Handlers | Mapping[str, Handlers] | None) -> Mapping[str, Handlers]:
    if handlers is None:
        return {}
    return {"handlers": handlers} if isinstance(handlers, Handlers) else handlers


async def _serve(
    server: MemoryServer,
    own: Mapping[str, Handlers],
    stubs: Mapping[str, Stub],
    offline_lm: bool,
    ready: anyio.Event,
    over: anyio.Event,
) -> None:
    async with AsyncExitStack() as stack:
        environment = await stack.enter_async_context(_offline()) if offline_lm else {}
        group = await stack.enter_async_context(anyio.create_task_group())
        bus = await stack.enter_async_context(MemoryBus(server, name="router"))
        await group.start(Router(bus, RouterConfig(workers_grace_s=_GRACE_S)).run)
        for pool, handlers in _pools(own, stubs, environment).items():
            bus = await stack.enter_async_context(MemoryBus(server, name=pool))
            await group.start(Worker(bus, handlers, WorkerConfig(pool=pool, drain_s=_DRAIN_S)).run)
        ready.set()
        await over.wait()
        group.cancel_scope.cancel()


@asynccontextmanager
async def _offline() -> AsyncIterator[dict[str, str]]:
    from dspex_services.offline_lm import MODEL, OfflineLM

    async with OfflineLM() as lm:
        yield {"DSPEX_MODEL": f"openai/{MODEL}", "DSPEX_BASE_URL": lm.base_url}


def _pools(
    own: Mapping[str, Handlers], stubs: Mapping[str, Stub], environment: Mapping[str, str]
) -> dict[str, Handlers]:
    pools = {"native": native_handlers(Models(environment))}
    for pool, handlers in own.items():
        pools.setdefault(pool, Handlers()).include(handlers)  # a copy: stubs are this system's alone
    for name, stub in stubs.items():
        function = _answering(stub)
        there = [handlers for handlers in pools.values() if handlers.find(name) is not None]
        for handlers in there:
            handlers.replace(name, function)
        if not there:
            info = _described(name)
            pool = "dspy" if info.implementation == "dspy" else "stubs"
            pools.setdefault(pool, Handlers()).add(function, info)
    return pools


def _answering(stub: Stub) -> Callable[..., Any]:
    async def answer(_given: dict[str, Any], step: Step) -> Any:
        made = stub(dict(step.inputs)) if callable(stub) else stub
        return await made if inspect.isawaitable(made) else made

    return answer


def _described(name: str) -> HandlerInfo:
    """DSPy's own description of a module of its, where DSPy is installed; of anything else nothing is known."""
    if name.startswith("dspy.") and importlib.util.find_spec("dspy"):
        from dspex_services.dspy import handlers

        if (found := handlers.find(name)) is not None:
            return found.info
    module = name.startswith("dspy.") or ":" in name
    return HandlerInfo(name=name.replace(":", "."), implementation="dspy" if module else "native", reads="any")
