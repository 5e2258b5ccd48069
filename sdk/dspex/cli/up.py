"""``up``: the whole system on this machine, until it is told to stop."""

from __future__ import annotations

from pathlib import Path

import anyio
import click
from rich.markup import escape

from dspex_bus.process import settle

from .._connecting import DEFAULT_SERVER
from .shell import asynchronous, json_option, largest_option, out, retention_option, say_ready, templates_option


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
@click.option("--optimize", type=click.IntRange(0), help="Workers for optimizers; default: 1, with DSPy workers.")
@click.option("--handlers", multiple=True, metavar="MODULE:NAME", help="Your own handlers, in a pool of their own.")
@click.option("--module", "modules", multiple=True, metavar="MODULE:CLASS", help="Your own DSPy modules.")
@click.option(
    "--documents",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder that searches may read; default: this one.",
)
@templates_option
@click.option(
    "--sync-always", is_flag=True, help="Sync every write to disk: survives power loss, costs twice the time."
)
@retention_option
@largest_option
@json_option
@asynchronous
async def up(
    port: int,
    data: Path,
    native: int,
    dspy: int,
    optimize: int | None,
    handlers: tuple[str, ...],
    modules: tuple[str, ...],
    documents: Path | None,
    templates: Path | None,
    sync_always: bool,
    retention_days: float,
    largest_mb: int,
    as_json: bool,
) -> None:
    """Start an embedded NATS server, the router and the pools, and keep them running until Ctrl-C.

    \b
      dspex up
      dspex up --handlers mypackage.steps:handlers --module mypackage.programs:MultiHop

    Your own code is looked for in this folder first. The model is the environment's: DSPEX_MODEL (openai/NAME or
    anthropic/NAME), DSPEX_BASE_URL for any OpenAI-compatible server, and the key in OPENAI_API_KEY or
    ANTHROPIC_API_KEY; without any of these the offline LM answers.
    """
    from ..system import OFFLINE_NOTE, SystemOptions, local_system, model_note, user_pools

    options = SystemOptions(
        native=native,
        dspy=dspy,
        optimize=min(1, dspy) if optimize is None else optimize,
        modules=modules,
        pools=user_pools(handlers),
        data_dir=data,
        port=port,
        sync_always=sync_always,
        documents=documents,
        templates=templates,
        retention_s=86_400 * retention_days,
        largest_bytes=largest_mb << 20,
    )
    if not as_json:
        out.print("starting server, router and pools …")
    async with local_system(options) as system:
        settle()
        ready = {"server": system.url, "model": system.model, "offline": system.offline}
        say_ready(f"[green]ready[/] on [bold]{system.url}[/], model {system.model}", ready, as_json)
        if as_json:
            await anyio.sleep_forever()
        if note := OFFLINE_NOTE if system.offline else model_note():
            out.print(f"[yellow]{escape(note)}[/]")
        elsewhere = "" if system.url == DEFAULT_SERVER else f" --server {system.url}"
        out.print(
            f"try:  dspex call predict{elsewhere} --with signature='question -> answer' question='…'\n"
            f"      dspex pools{elsewhere}",
            soft_wrap=True,
        )
        out.print("Ctrl-C stops everything; sessions that have not ended go on at the next start.")
        await anyio.sleep_forever()
