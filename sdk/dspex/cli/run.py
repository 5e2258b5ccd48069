"""``run`` and ``call``: work for a running system."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import Any

import anyio
import click
from rich.markup import escape

from dspex_bus.wire import PipelineDefinition, Priority

from ..loading import load_pipeline
from .attaching import attach_files, files_option
from .connecting import connect
from .explain import show
from .shell import SECONDS, asynchronous, detached, json_option, out, parse_inputs, print_json, server_option
from .spending import budget_of, budget_options, tenant_option
from .watching import conclude, follow

_RAN = ("implementation", "handler", "pool", "worker", "duration_us", "usage")


def _pipeline(name: str) -> PipelineDefinition | str:
    """A file, or the name of a stored pipeline."""
    return load_pipeline(name) if Path(name).suffix in (".yaml", ".yml", ".json") else name


@click.command(short_help="Run a pipeline and watch it.")
@click.argument("pipeline")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--input", "document", metavar="JSON", help="The input as a JSON object, @FILE, or - for standard input.")
@files_option
@click.option("--timeout", type=SECONDS, default=600.0, show_default=True, help="Seconds the whole run may take.")
@click.option("--session", metavar="ID", help="Your own id for the session: the same id twice is one session.")
@click.option(
    "--priority",
    type=click.Choice(["high", "normal", "low"]),
    help="Which of its pools' queues the run's steps wait in. [default: the pipeline's, else normal]",
)
@click.option("--thread", metavar="NAME", help="The conversation that steps with 'remember' go on with.")
@click.option("--stream", is_flag=True, help="Show what models write, as it comes.")
@click.option("--detach", is_flag=True, help="Print the session id once the run is stored, and leave.")
@budget_options
@tenant_option
@server_option
@json_option
@asynchronous
async def run(
    pipeline: str,
    fields: tuple[str, ...],
    document: str | None,
    files: tuple[str, ...],
    timeout: float,
    session: str | None,
    priority: Priority | None,
    thread: str | None,
    stream: bool,
    detach: bool,
    cost: float | None,
    tokens: int | None,
    tenant: str,
    server: str | None,
    as_json: bool,
) -> int:
    """Run PIPELINE, a .yaml or .json file or the name of a stored one, and watch it to its end.

    \b
      dspex run research.yaml question="What is a pool?"
      dspex run research --input @question.json --json

    A value that is JSON is taken as JSON (k=5, tags='["a"]'), any other as text; text=@article.txt is what the file
    holds. The output is printed as JSON; with
    --json, the whole result: {"session", "status", "output", "error"}; with --stream besides, every event and token
    before it, each on a line of its own. The exit code is 1 when the run did not succeed. Ctrl-C leaves the session
    running.
    """
    values = parse_inputs(fields, document)
    definition = _pipeline(pipeline)
    async with connect(server, name="dspex-run") as client:
        values |= await attach_files(client, files)
        handle = client.session(session or secrets.token_hex(12))

        async def begin() -> None:
            await client.submit(
                definition,
                values,
                timeout_s=timeout,
                session=handle.id,
                budget=budget_of(cost, tokens),
                tenant=tenant,
                priority=priority,
                stream=stream,
                thread=thread,
            )

        if detach:
            await begin()
            watch = f"dspex watch {handle.id}{' --tokens' if stream else ''}"
            detached(handle.id, f"it runs; watch it with: {watch}", as_json)
            return 0
        try:
            if as_json and stream:
                async for item in handle.follow(begin=begin):
                    print_json(item)
                    sys.stdout.flush()
            else:
                await follow(client, handle, quiet=as_json, tokens=stream, begin=begin)
        except anyio.get_cancelled_exc_class():
            click.echo(
                f"session {handle.id} goes on; watch it: dspex watch {handle.id}, or end it: dspex cancel {handle.id}",
                err=True,
            )
            raise
        result = await handle.result(timeout_s=30)
    if as_json:
        print_json(result)
    else:
        conclude(result)
    return 0 if result.status == "succeeded" else 1


@click.command(short_help="Call one operation or handler.")
@click.argument("operation")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--with", "constants", multiple=True, metavar="NAME=VALUE", help="A constant, such as signature=…")
@click.option("--input", "document", metavar="JSON", help="The fields as a JSON object, @FILE, or - for stdin.")
@files_option
@click.option("--implementation", type=click.Choice(["auto", "native", "dspy"]), default="auto", show_default=True)
@click.option("--timeout", type=SECONDS, default=60.0, show_default=True, help="Seconds to wait.")
@click.option("--explain", is_flag=True, help="Say what would run, and why, and run nothing.")
@budget_options
@tenant_option
@server_option
@json_option
@asynchronous
async def call(
    operation: str,
    fields: tuple[str, ...],
    constants: tuple[str, ...],
    document: str | None,
    files: tuple[str, ...],
    implementation: Any,
    timeout: float,
    explain: bool,
    cost: float | None,
    tokens: int | None,
    tenant: str,
    server: str | None,
    as_json: bool,
) -> int:
    """Call OPERATION (predict, chain_of_thought, lm, template, …) or any handler a pool offers. Nothing is stored.

    \b
      dspex call predict --with signature="question -> answer" question="What is a pool?"
      dspex call lm prompt="Say hello."
      dspex call template --with template="Hello {{ name }}" name=Ada
    """
    given = parse_inputs(constants, None)
    async with connect(server, name="dspex-call") as client:
        if explain:
            return show(await client.explain(operation, constants=given, implementation=implementation), as_json)
        prediction = await client.call(
            operation,
            inputs={**parse_inputs(fields, document), **await attach_files(client, files)},
            constants=given,
            implementation=implementation,
            timeout_s=timeout,
            budget=budget_of(cost, tokens),
            tenant=tenant,
        )
    if as_json:
        ran = {name: getattr(prediction, name) for name in _RAN}
        print_json({"outputs": dict(prediction), **ran})
        return 0
    print_json(dict(prediction))
    where = (prediction.handler, prediction.implementation, f"pool {prediction.pool}", prediction.worker)
    out.print(f"[dim]{escape(' · '.join(where))}[/]")
    return 0
