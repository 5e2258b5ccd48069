"""A whole dspex on this machine: server, router and pools, owned by one ``async with``."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import msgspec
from anyio.abc import TaskStatus

from dspex_bus import EmbeddedServer, NatsBus
from dspex_bus.errors import InvalidRequest
from dspex_bus.streams import LARGEST_BYTES
from dspex_router import Router, RouterConfig
from dspex_services.lm import Configured, LMConfig, lacks_key
from dspex_services.supervisor import DSPY, NATIVE, OPTIMIZE, PoolSpec, Supervisor

from ._connecting import server_url

OFFLINE_NOTE = (
    "No model is configured, so the offline LM answers: it picks sentences from what it is given and is no real model. "
    "Set DSPEX_MODEL and its key (OPENAI_API_KEY, ANTHROPIC_API_KEY) or DSPEX_BASE_URL to use one."
)

NO_MODEL_NOTE = (
    "No model is configured here, so steps that need one fail with lm_not_configured. Set DSPEX_MODEL and its key, "
    "or try things out on: dspex offline-lm"
)

_SIZES = {"native": 1, "dspy": 4, "optimize": 1}
_SLOTS = {"native": 64, "dspy": 8, "optimize": 1}
_HANDLERS = {"native": NATIVE, "dspy": DSPY, "optimize": OPTIMIZE}
_ENVIRONMENT = {"optimize": {"TQDM_DISABLE": "1"}}  # its progress goes over the bus


@dataclass(frozen=True, kw_only=True)
class SystemOptions:
    """``native``, ``dspy`` and ``optimize`` are numbers of workers; ``modules`` are the user's DSPy modules, served
    beside DSPy's.
    ``pools`` are the user's own, besides the built-in ones. ``data_dir`` None: the server's data goes with it.
    ``documents`` is the folder that the search handlers may read; None: the working directory. ``templates`` is the one
    with files of templates; None: there are none."""

    native: int = 1
    dspy: int = 1
    optimize: int = 0
    modules: Sequence[str] = ()
    pools: Sequence[PoolSpec] = ()
    data_dir: Path | None = None
    port: int = 0
    sync_always: bool = False
    documents: Path | None = None
    templates: Path | None = None
    retention_s: float = 7 * 86_400.0
    largest_bytes: int = LARGEST_BYTES


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
            config = RouterConfig(retention_s=options.retention_s, largest_bytes=options.largest_bytes)
            await group.start(Router(bus, config).run)
            await group.start(Supervisor(server.url, _pools(options, model)).run)
            try:
                yield System(url=server.url, model=model.name, offline=model.offline)
            finally:
                group.cancel_scope.cancel()


@asynccontextmanager
async def model_or_offline() -> AsyncIterator[Model]:
    """The model this process's environment names; where it names none, the offline LM, which runs meanwhile."""
    named = named_model()
    if named is not None:
        yield Model(name=named)
        return
    from dspex_services.offline_lm import MODEL, OfflineLM

    name = f"openai/{MODEL}"
    async with OfflineLM() as lm:
        yield Model(name=name, offline=True, environment={"DSPEX_MODEL": name, "DSPEX_BASE_URL": lm.base_url})


def named_model() -> str | None:
    """The model that this process's environment names."""
    config = LMConfig.from_environment(os.environ)
    return None if config is None else config.model


def model_note() -> str | None:
    """What will fail, where this process's environment names no model, or one without its key."""
    config = Configured().get()
    return NO_MODEL_NOTE if config is None else lacks_key(config, os.environ)


def in_environment(spec: PoolSpec, environment: Mapping[str, str]) -> PoolSpec:
    """The spec with ``environment`` for its workers; what it says itself wins."""
    return msgspec.structs.replace(spec, environment={**environment, **spec.environment})


async def run_pool(spec: PoolSpec, server: str | None, *, task_status: TaskStatus[None]) -> None:
    """One pool's workers on this machine, for the system behind ``server``."""
    await Supervisor(server_url(server), [spec]).run(task_status=task_status)


def built_in_pool(
    name: str, *, size: int | None = None, slots: int | None = None, modules: Sequence[str] = (), **more: Any
) -> PoolSpec:
    """``native``, or ``dspy`` and ``optimize``, which know the user's own ``modules`` besides DSPy's. ``more`` are
    other fields of the spec."""
    if modules and name == "native":
        raise InvalidRequest(f"the pool {name} serves no DSPy modules; they go to the pool dspy")
    return PoolSpec(
        pool=name,
        handlers=(_HANDLERS[name],),
        modules=tuple(modules),
        size=size or _SIZES[name],
        slots=slots or _SLOTS[name],
        path=(os.getcwd(),),
        environment=_ENVIRONMENT.get(name, {}),
        **more,
    )


def user_pools(paths: Sequence[str]) -> list[PoolSpec]:
    """A pool for the handlers at each ``module:attribute``, called after the module's first part; those with the same
    name share one pool, since any worker of a pool must have all of its handlers."""
    found: dict[str, list[str]] = {}
    for path in paths:
        found.setdefault(_pool_name(path), []).append(path)
    return [user_pool(*together, name=name) for name, together in found.items()]


def user_pool(
    *paths: str,
    name: str | None = None,
    size: int = 1,
    slots: int | None = None,
    **more: Any,
) -> PoolSpec:
    """A pool for the handlers at ``module:attribute``, found from the working directory. ``more`` are other fields of
    the spec."""
    name = name or _pool_name(paths[0])
    if name in _SIZES:
        raise InvalidRequest(f"the pool {name} is built in; give yours another name: --pool NAME", code="invalid_name")
    return PoolSpec(
        pool=name,
        handlers=paths,
        size=size,
        slots=slots or _SLOTS["native"],
        path=(os.getcwd(),),
        **more,
    )


def _pool_name(path: str) -> str:
    return path.partition(":")[0].partition(".")[0]


def _pools(options: SystemOptions, model: Model) -> list[PoolSpec]:
    environment = dict(model.environment)
    if options.documents:
        environment["DSPEX_DOCUMENTS"] = str(options.documents.resolve())
    if options.templates:
        environment["DSPEX_TEMPLATES"] = str(options.templates.resolve())
    if options.modules and not options.dspy:
        raise InvalidRequest("your DSPy modules need workers of the pool dspy, and it is to have none")
    sizes = {"native": options.native, "dspy": options.dspy, "optimize": options.optimize}
    modules = {"native": (), "dspy": options.modules, "optimize": options.modules}
    specs = [built_in_pool(name, size=size, modules=modules[name]) for name, size in sizes.items() if size]
    return [in_environment(spec, environment) for spec in (*specs, *options.pools)]
