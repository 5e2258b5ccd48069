"""One part of a system, until it is told to stop: ``serve``, ``pool``, ``router``, ``offline-lm``."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from dspex_bus.process import settle

from .._connecting import server_url
from .routing import routing_options, settings
from .shell import (
    asynchronous,
    json_option,
    say_ready,
    server_option,
    templates_option,
)
from .sizing import given, sizing_options

if TYPE_CHECKING:
    from dspex_services.supervisor import PoolSpec


offline_option = click.option(
    "--offline", is_flag=True, help="Without a model, answer with the offline LM instead of an error."
)


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
@offline_option
@sizing_options
@server_option
@json_option
@asynchronous
async def serve(
    handlers: str,
    name: str | None,
    size: int,
    slots: int | None,
    ack_wait: float,
    offline: bool,
    server: str | None,
    as_json: bool,
    **sizing: Any,
) -> None:
    """Serve the handlers registered in MODULE:NAME, such as mypackage.steps:handlers, in a pool of their own; or the
    DSPy module of that name, such as mypackage.programs:MultiHop.

    \b
      # mypackage/steps.py
      import dspex, msgspec
      handlers = dspex.Handlers()
      class Text(msgspec.Struct): text: str
      @handlers.handler("text.length")
      def length(request: Text) -> dict: return {"length": len(request.text)}

    The module is looked for in this folder first, then where Python finds its packages.

    A worker that is replaced goes on until its replacement is ready, and finishes what it has begun: no request
    fails and no capacity is missing. One that crashes is started again at once, and its tasks go to the others.

    
      dspex serve mypackage.steps:handlers --size 2 --max-size 8 --recycle-after-tasks 10000 --recycle-over-mb 2000
    """
    from ..system import user_pool

    spec = user_pool(handlers, name=name, size=size, slots=slots, ack_wait_s=ack_wait, **given(sizing))
    await _pool(spec, server, offline, as_json)


@click.command(short_help="Start one of the built-in pools.")
@click.argument("name", type=click.Choice(["native", "dspy", "optimize"]))
@click.option("--size", type=click.IntRange(1), help="Worker processes; default 4 for dspy, else 1.")
@click.option("--slots", type=click.IntRange(1), help="Tasks a worker runs at once.")
@click.option("--module", "modules", multiple=True, metavar="MODULE:CLASS", help="Your own DSPy modules, metrics.")
@templates_option
@offline_option
@sizing_options
@server_option
@json_option
@asynchronous
async def pool(
    name: str,
    size: int | None,
    slots: int | None,
    modules: tuple[str, ...],
    templates: Path | None,
    offline: bool,
    server: str | None,
    as_json: bool,
    **sizing: Any,
) -> None:
    """Run worker processes of the pool NAME until told to stop.

    
      dspex pool dspy --size 2 --max-size 8         more workers when tasks wait, fewer when they are idle
      dspex pool dspy --recycle-over-mb 2000        a worker that has grown is replaced, without a gap

    The model is the environment's: DSPEX_MODEL (openai/NAME or anthropic/NAME), DSPEX_BASE_URL for any
    OpenAI-compatible server, and the key in OPENAI_API_KEY or ANTHROPIC_API_KEY.
    """
    from ..system import built_in_pool, in_environment, model_note

    spec = built_in_pool(name, size=size, slots=slots, modules=modules, **given(sizing))
    if templates:
        spec = in_environment(spec, {"DSPEX_TEMPLATES": str(templates)})
    if not offline and (note := model_note()):
        click.secho(note, fg="yellow", err=True)
    await _pool(spec, server, offline, as_json)


async def _pool(spec: PoolSpec, server: str | None, offline: bool, as_json: bool) -> None:
    from ..system import OFFLINE_NOTE, in_environment, model_or_offline

    if not offline:
        return await _run(spec, server, as_json)
    async with model_or_offline() as model:
        if model.offline:
            click.secho(OFFLINE_NOTE, fg="yellow", err=as_json)
        await _run(in_environment(spec, model.environment), server, as_json)


async def _run(spec: PoolSpec, server: str | None, as_json: bool) -> None:
    from ..system import run_pool

    async with anyio.create_task_group() as group:
        await group.start(run_pool, spec, server)
        ready = {"pool": spec.pool, "workers": spec.size, "server": server_url(server)}
        say_ready(f"pool [bold]{spec.pool}[/] is ready; Ctrl-C drains and stops it", ready, as_json)
        await anyio.sleep_forever()


@click.command(short_help="Start a router.")
@routing_options
@server_option
@json_option
@asynchronous
async def router(server: str | None, as_json: bool, **options: Any) -> None:
    """Run a router until told to stop: it keeps sessions going and answers clients. Any number may run."""
    from dspex_router import Router, RouterConfig

    from .._connecting import open_bus

    async with open_bus(server, name="dspex-router") as bus, anyio.create_task_group() as group:
        await group.start(Router(bus, RouterConfig(**settings(**options))).run)
        settle()
        url = server_url(server)
        say_ready(f"router is ready on {url}; Ctrl-C stops it, sessions go on with the next", {"server": url}, as_json)
        await anyio.sleep_forever()


@click.command("offline-lm", short_help="Start the offline LM server.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, default=8080, show_default=True, help="0 picks a free one.")
@json_option
@asynchronous
async def offline_lm(host: str, port: int, as_json: bool) -> None:
    """Serve the OpenAI and Anthropic protocols with answers extracted from the prompt: no real model, for trying out
    and for tests. It prints the environment that makes a pool use it."""
    from dspex_bus.errors import SetupError
    from dspex_services.offline_lm import MODEL, OfflineLM

    async with AsyncExitStack() as stack:
        try:
            server = await stack.enter_async_context(OfflineLM(host=host, port=port))
        except OSError as error:
            raise SetupError(f"cannot listen on {host}:{port}: {error.strerror}", code="port_in_use") from error
        environment = {"DSPEX_MODEL": f"openai/{MODEL}", "DSPEX_BASE_URL": server.base_url}
        text = "\n".join(f"export {name}={value}" for name, value in environment.items())
        say_ready(f"# offline LM, no real model; Ctrl-C stops it\n{text}", environment, as_json)
        await anyio.sleep_forever()
