"""What runs until it is told to stop: the whole system, or one part of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from dspex_bus.process import settle

from .shell import asynchronous, json_option, out, print_json, server_option

if TYPE_CHECKING:
    from dspex_services.supervisor import PoolSpec


retention_option = click.option(
    "--retention-days",
    type=click.FloatRange(min=0),
    default=7.0,
    show_default=True,
    help="How long a session's journal is kept after its end.",
)


@click.command(short_help="Start server, router and pools on this machine.")
@click.option("--port", type=int, default=4222, show_default=True, help="The server's port on 127.0.0.1; 0 picks one.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".dspex"),
    show_default=True,
    help="Where the server keeps streams; sessions there go on at the next start.",
)
@click.option("--native", "native", type=click.IntRange(0), default=1, show_default=True, help="Native workers.")
@click.option("--dspy", "dspy", type=click.IntRange(0), default=4, show_default=True, help="DSPy workers.")
@click.option("--handlers", multiple=True, metavar="MODULE:NAME", help="Your own handlers, each in a pool of its own.")
@click.option("--documents", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder to search in.")
@click.option(
    "--sync-always", is_flag=True, help="Sync every write to disk: survives power loss, costs twice the time."
)
@retention_option
@json_option
@asynchronous
async def up(
    port: int,
    data: Path,
    native: int,
    dspy: int,
    handlers: tuple[str, ...],
    documents: Path | None,
    sync_always: bool,
    retention_days: float,
    as_json: bool,
) -> None:
    """Start an embedded NATS server, the router and the pools, and keep them running until Ctrl-C.

    \b
      dspex up
      dspex up --handlers mypackage.steps:handlers
    """
    from ..system import OFFLINE_NOTE, SystemOptions, local_system, user_pool

    options = SystemOptions(
        native=native,
        dspy=dspy,
        pools=[user_pool(path) for path in handlers],
        data_dir=data,
        port=port,
        sync_always=sync_always,
        documents=documents,
        retention_s=86_400 * retention_days,
    )
    if not as_json:
        out.print("starting server, router and pools …")
    async with local_system(options) as system:
        settle()
        if as_json:
            print_json({"server": system.url, "model": system.model, "offline": system.offline})
            sys.stdout.flush()
            await anyio.sleep_forever()
        out.print(f"[green]ready[/] on [bold]{system.url}[/], model {system.model}")
        if system.offline:
            out.print(f"[yellow]{OFFLINE_NOTE}[/]")
        out.print(f"try:  dspex call predict --server {system.url} --with signature='question -> answer' question='…'")
        out.print(f"      dspex pools --server {system.url}")
        out.print("Ctrl-C stops everything; sessions that have not ended go on at the next start.")
        await anyio.sleep_forever()


@click.command(short_help="Serve your own handlers to a running system.")
@click.argument("handlers", metavar="MODULE:NAME")
@click.option("--pool", "name", metavar="NAME", help="The pool's name; default: the module's first part.")
@click.option("--size", type=click.IntRange(1), default=1, show_default=True, help="Worker processes.")
@click.option("--slots", type=click.IntRange(1), help="Tasks a worker runs at once.")
@click.option(
    "--ack-wait",
    type=click.FloatRange(0.5),
    default=15.0,
    show_default=True,
    help="Seconds of silence after which a worker's tasks go to another.",
)
@server_option
@asynchronous
async def serve(
    handlers: str, name: str | None, size: int, slots: int | None, ack_wait: float, server: str | None
) -> None:
    """Serve the handlers registered in MODULE:NAME, such as mypackage.steps:handlers, in a pool of their own.

    \b
      # mypackage/steps.py
      import dspex, msgspec
      handlers = dspex.Handlers()
      class Text(msgspec.Struct): text: str
      @handlers.handler("text.length")
      def length(request: Text) -> dict: return {"length": len(request.text)}
    """
    from ..system import user_pool

    await _pool(user_pool(handlers, name=name, size=size, slots=slots, ack_wait_s=ack_wait), server)


@click.command(short_help="Start one of the built-in pools.")
@click.argument("name", type=click.Choice(["native", "dspy"]))
@click.option("--size", type=click.IntRange(1), help="Worker processes; default 1 for native, 4 for dspy.")
@click.option("--slots", type=click.IntRange(1), help="Tasks a worker runs at once.")
@click.option("--module", "modules", multiple=True, metavar="MODULE:CLASS", help="Your own DSPy modules (pool dspy).")
@click.option("--offline", is_flag=True, help="Without a model, answer with the offline LM instead of an error.")
@server_option
@asynchronous
async def pool(
    name: str, size: int | None, slots: int | None, modules: tuple[str, ...], offline: bool, server: str | None
) -> None:
    """Run worker processes of the pool NAME until told to stop.

    The model is the environment's: DSPEX_MODEL (openai/NAME or anthropic/NAME), DSPEX_BASE_URL for any
    OpenAI-compatible server, and the key in OPENAI_API_KEY or ANTHROPIC_API_KEY.
    """
    from ..system import OFFLINE_NOTE, built_in_pool, in_environment, model_or_offline

    spec = built_in_pool(name, size=size, slots=slots, modules=modules)
    if not offline:
        return await _pool(spec, server)
    async with model_or_offline() as model:
        if model.offline:
            out.print(f"[yellow]{OFFLINE_NOTE}[/]")
        await _pool(in_environment(spec, model.environment), server)


async def _pool(spec: PoolSpec, server: str | None) -> None:
    from ..system import run_pool

    async with anyio.create_task_group() as group:
        await group.start(run_pool, spec, server)
        out.print(f"pool [bold]{spec.pool}[/] is ready; Ctrl-C drains and stops it")
        await anyio.sleep_forever()


@click.command(short_help="Start a router.")
@retention_option
@server_option
@asynchronous
async def router(retention_days: float, server: str | None) -> None:
    """Run a router until told to stop: it keeps sessions going and answers clients. Any number may run."""
    from dspex_router import Router, RouterConfig

    from .._connecting import open_bus, server_url

    async with open_bus(server, name="dspex-router") as bus, anyio.create_task_group() as group:
        await group.start(Router(bus, RouterConfig(retention_s=86_400 * retention_days)).run)
        settle()
        out.print(f"router is ready on {server_url(server)}; Ctrl-C stops it, sessions go on with the next")
        await anyio.sleep_forever()


@click.command("offline-lm", short_help="Start the offline LM server.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, default=8080, show_default=True)
@asynchronous
async def offline_lm(host: str, port: int) -> None:
    """Serve the OpenAI and Anthropic protocols with answers extracted from the prompt: no real model, for trying out
    and for tests. Point pools at it with DSPEX_MODEL=openai/offline-extractive and DSPEX_BASE_URL."""
    from dspex_services.offline_lm import OfflineLM

    async with OfflineLM(host=host, port=port) as server:
        out.print(f"offline LM (no real model) on {server.base_url}")
        await anyio.sleep_forever()
