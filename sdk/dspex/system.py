"""A whole dspex on this machine: server, router and pools, owned by one ``async with``."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import msgspec
from anyio.abc import TaskStatus

from dspex_bus import EmbeddedServer, NatsBus
from dspex_router import Router, RouterConfig
from dspex_services.lm import LMConfig
from dspex_services.supervisor import DSPY, NATIVE, PoolSpec, Supervisor

from ._connecting import server_url

OFFLINE_NOTE = (
    "No model is configured, so the offline LM answers: it picks sentences from what it is given and is no real model. "
    "Set DSPEX_MODEL and its key (OPENAI_API_KEY, ANTHROPIC_API_KEY) or DSPEX_BASE_URL to use one."
)

_SIZES = {"native": 1, "dspy": 4}
_SLOTS = {"native": 64, "dspy": 8}


@dataclass(frozen=True, kw_only=True)
class SystemOptions:
    """``pools`` are the user's own, besides the built-in ones. ``data_dir`` None: the server's data goes with it.
    ``documents`` is the folder that the search handlers may read; None: the working directory."""

    native: int = 1
    dspy: int = 1
    pools: Sequence[PoolSpec] = ()
    data_dir: Path | None = None
    port: int = 0
    sync_always: bool = False
    documents: Path | None = None
    retention_s: float = 7 * 86_400.0


@dataclass(frozen=True, kw_only=True)
class System:
    """``model`` answers LM calls; ``offline`` says plainly that it is no real one."""

    url: str
    model: str
    offline: bool


@dataclass(frozen=True, kw_only=True)
class Model:
    """``environment`` makes it the model of workers that are started with it."""

    name: str
    offline: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


@asynccontextmanager
async def local_system(options: SystemOptions) -> AsyncIterator[System]:
    """Start everything and yield when every part is ready. Whatever happens inside, nothing is left behind."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            EmbeddedServer(data_dir=options.data_dir, port=options.port, sync_always=options.sync_always)
        )
        model = await stack.enter_async_context(model_or_offline())
        bus = await stack.enter_async_context(NatsBus(server.url, name="dspex-router"))
        async with anyio.create_task_group() as group:
            await group.start(Router(bus, RouterConfig(retention_s=options.retention_s)).run)
            await group.start(Supervisor(server.url, _pools(options, model)).run)
            try:
                yield System(url=server.url, model=model.name, offline=model.offline)
            finally:
                group.cancel_scope.cancel()


@asynccontextmanager
async def model_or_offline() -> AsyncIterator[Model]:
    """The model this process's environment names; where it names none, the offline LM, which runs meanwhile."""
    config = LMConfig.from_environment(os.environ)
    if config is not None:
        yield Model(name=config.model)
        return
    from dspex_services.offline_lm import MODEL, OfflineLM

    name = f"openai/{MODEL}"
    async with OfflineLM() as lm:
        yield Model(name=name, offline=True, environment={"DSPEX_MODEL": name, "DSPEX_BASE_URL": lm.base_url})


def in_environment(spec: PoolSpec, environment: Mapping[str, str]) -> PoolSpec:
    """The spec with ``environment`` for its workers; what it says itself wins."""
    return msgspec.structs.replace(spec, environment={**environment, **spec.environment})


async def run_pool(spec: PoolSpec, server: str | None, *, task_status: TaskStatus[None]) -> None:
    """One pool's workers on this machine, for the system behind ``server``."""
    await Supervisor(server_url(server), [spec]).run(task_status=task_status)


def built_in_pool(
    name: str, *, size: int | None = None, slots: int | None = None, modules: Sequence[str] = ()
) -> PoolSpec:
    """``native``, or ``dspy`` with the user's own ``modules`` besides DSPy's."""
    return PoolSpec(
        pool=name,
        handlers=(NATIVE if name == "native" else DSPY,),
        modules=tuple(modules),
        size=size or _SIZES[name],
        slots=slots or _SLOTS[name],
        path=(os.getcwd(),),
    )


def user_pool(
    path: str,
    *,
    name: str | None = None,
    size: int = 1,
    slots: int | None = None,
    ack_wait_s: float = 15.0,
) -> PoolSpec:
    """A pool for the handlers at ``module:attribute``, found from the working directory."""
    return PoolSpec(
        pool=name or path.partition(":")[0].partition(".")[0],
        handlers=(path,),
        size=size,
        slots=slots or _SLOTS["native"],
        path=(os.getcwd(),),
        ack_wait_s=ack_wait_s,
    )


def _pools(options: SystemOptions, model: Model) -> list[PoolSpec]:
    environment = dict(model.environment)
    if options.documents:
        environment["DSPEX_DOCUMENTS"] = str(options.documents.resolve())
    sizes = {"native": options.native, "dspy": options.dspy}
    specs = [built_in_pool(name, size=size) for name, size in sizes.items() if size]
    return [in_environment(spec, environment) for spec in (*specs, *options.pools)]
