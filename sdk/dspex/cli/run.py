"""``run``, ``watch``, ``call``: what is asked of a running system."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from dspex_bus.wire import PipelineDefinition

from ..client import connect
from ..loading import load_pipeline
from .drawing import tree
from .shell import asynchronous, json_option, live, out, parse_inputs, print_json, server_option
from .watching import follow


def _pipeline(name: str) -> PipelineDefinition | str:
    """A file, or the name of a stored pipeline."""
    return load_pipeline(name) if Path(name).suffix in (".yaml", ".yml", ".json") else name


@click.command(short_help="Run a pipeline and watch it.")
@click.argument("pipeline")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--input", "document", metavar="JSON", help="The input as a JSON object, @FILE, or - for standard input.")
@click.option("--timeout", type=float, default=600.0, show_default=True, help="Seconds the whole run may take.")
@click.option("--session", metavar="ID", help="Your own id for the session: the same id twice is one session.")
@click.option("--detach", is_flag=True, help="Print the session id once the run is stored, and leave.")
@server_option
@json_option
@asynchronous
async def run(
    pipeline: str,
    fields: tuple[str, ...],
    document: str | None,
    timeout: float,
    session: str | None,
    detach: bool,
    server: str | None,
    as_json: bool,
) -> int:
    """Run PIPELINE, a .yaml or .json file or the name of a stored one, and watch it to its end.

    \b
      dspex run research.yaml question="What is a pool?"
      dspex run research --input @question.json --json
    """
    values = parse_inputs(fields, document)
    definition = _pipeline(pipeline)
    async with connect(server, name="dspex-run") as client:
        handle = await client.submit(definition, values, timeout_s=timeout, session=session)
        if detach:
            print_json({"session": handle.id}) if as_json else out.print(
                f"session {handle.id} runs; watch it with: dspex watch {handle.id}"
            )
            return 0
        progression = await follow(client, handle, quiet=as_json)
        result = await handle.result(timeout_s=30)
    if as_json:
        print_json(result)
    elif result.status == "succeeded":
        print_json(result.output)
    else:
        error = result.error
        out.print(f"[red]{result.status}[/]: {error.code}: {error.message}" if error else f"[red]{result.status}[/]")
        out.print(f"see it again with: dspex watch {progression.session}")
    return 0 if result.status == "succeeded" else 1


@click.command(short_help="Watch a session, live or after its end.")
@click.argument("session")
@click.option("--after", type=int, default=0, help="Only events with a sequence above this one.")
@server_option
@json_option
@asynchronous
async def watch(session: str, after: int, server: str | None, as_json: bool) -> None:
    """Show SESSION's steps as they go, from its first event to its last. With --json, one event a line."""
    async with connect(server, name="dspex-watch") as client:
        handle = client.session(session)
        if as_json:
            async for event in handle.events(after=after):
                print_json(event)
                sys.stdout.flush()
            return
        await handle.view()  # an unknown session is an error at once, not a wait
        progression = await follow(client, handle, after=after)
        if not live():
            out.print(tree(progression))


@click.command(short_help="Call one operation or handler.")
@click.argument("operation")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--with", "constants", multiple=True, metavar="NAME=VALUE", help="A constant, such as signature=…")
@click.option("--input", "document", metavar="JSON", help="The fields as a JSON object, @FILE, or - for stdin.")
@click.option("--implementation", type=click.Choice(["auto", "native", "dspy"]), default="auto", show_default=True)
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Seconds to wait.")
@server_option
@json_option
@asynchronous
async def call(
    operation: str,
    fields: tuple[str, ...],
    constants: tuple[str, ...],
    document: str | None,
    implementation: Any,
    timeout: float,
    server: str | None,
    as_json: bool,
) -> None:
    """Call OPERATION (predict, chain_of_thought, template, …) or any handler a pool offers. Nothing is stored.

    \b
      dspex call predict --with signature="question -> answer" question="What is a pool?"
      dspex call template --with template="Hello {{ name }}" name=Ada
    """
    async with connect(server, name="dspex-call") as client:
        prediction = await client.call(
            operation,
            inputs=parse_inputs(fields, document),
            constants=parse_inputs(constants, None),
            implementation=implementation,
            timeout_s=timeout,
        )
    if as_json:
        ran = {name: getattr(prediction, name) for name in ("implementation", "handler", "pool", "worker", "usage")}
        print_json({"outputs": dict(prediction), **ran})
        return
    print_json(dict(prediction))
    where = (prediction.handler, prediction.implementation, f"pool {prediction.pool}", prediction.worker)
    out.print(f"[dim]{' · '.join(where)}[/]")
