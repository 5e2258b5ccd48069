"""A whole dspex on this machine: server, router and pools, owned by one ``async with``."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from dspex_bus import EmbeddedServer, NatsBus
from dspex_router import Router
from dspex_services.lm import LMConfig
from dspex_services.supervisor import PoolSpec, Supervisor

NATIVE = "dspex_services.native:handlers"
DSPY = "dspex_services.dspy:handlers"

OFFLINE_NOTE = (
    "No model is configured, so the offline LM answers: it extracts sentences from what it is given and is no real model. "
    "Set DSPEX_MODEL and its key (OPENAI_API_KEY, ANTHROPIC_API_KEY) or DSPEX_BASE_URL to use one."
)


@dataclass(frozen=True, kw_only=True)
class SystemOptions:
    """``data_dir`` None: the server's data goes with it. ``pools`` besides the built-in ones, for users' handlers."""

    native: int = 1
    dspy: int = 1
    pools: Sequence[PoolSpec] = ()
    data_dir: Path | None = None
    port: int = 0
    sync_always: bool = False
    documents: Path | None = None


@dataclass(frozen=True, kw_only=True)
class System:
    """``model`` answers LM calls; ``offline`` says plainly that it is no real one."""

    url: str
    model: str
    offline: bool
    environment: dict[str, str] = field(default_factory=dict)


@asynccontextmanager
async def local_system(options: SystemOptions) -> AsyncIterator[System]:
    """Start everything and yield when every part is ready. Whatever happens inside, nothing is left behind."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            EmbeddedServer(data_dir=options.data_dir, port=options.port, sync_always=options.sync_always)
        )
        system = await _modelled(server.url, stack, options)
        bus = await stack.enter_async_context(NatsBus(server.url, name="dspex-router"))
        async with anyio.create_task_group() as group:
            await group.start(Router(bus).run)
            await group.start(Supervisor(_pools(options, system)).run)
            try:
                yield system
            finally:
                group.cancel_scope.cancel()


async def _modelled(url: str, stack: AsyncExitStack, options: SystemOptions) -> System:
    """The environment the workers get: the user's model, or the offline LM."""
    environment = {"DSPEX_DOCUMENTS": str(options.documents)} if options.documents else {}
    config = LMConfig.from_environment(os.environ)
    if config is not None:
        return System(url=url, model=config.model, offline=False, environment=environment)
    from dspex_services.offline_lm import OfflineLM

    lm = await stack.enter_async_context(OfflineLM())
    model = "openai/offline-extractive"
    environment |= {"DSPEX_MODEL": model, "DSPEX_BASE_URL": lm.base_url}
    return System(url=url, model=model, offline=True, environment=environment)


def _pools(options: SystemOptions, system: System) -> list[PoolSpec]:
    built_in = [("native", NATIVE, options.native), ("dspy", DSPY, options.dspy)]
    specs = [PoolSpec(pool=name, handlers=(path,), size=size) for name, path, size in built_in if size]
    return [_pointed(spec, system) for spec in (*specs, *options.pools)]
