"""``explain``: what would run, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.table import Table

from dspex_router.plan import OPERATIONS, Explained

from ..client import Client
from ..explaining import Explanation
from ..loading import load_pipeline
from .connecting import connect
from .shell import asynchronous, json_option, out, parse_inputs, print_json, server_option


@click.command(short_help="Which implementation each step gets, and why.")
@click.argument("target")
@click.option("--with", "constants", multiple=True, metavar="NAME=VALUE", help="A constant of the operation.")
@click.option("--implementation", type=click.Choice(["auto", "native", "dspy"]), default="auto", show_default=True)
@click.option("--pool", help="Where the operation shall run.")
@server_option
@json_option
@asynchronous
async def explain(
    target: str, constants: tuple[str, ...], implementation: Any, pool: str | None, server: str | None, as_json: bool
) -> int:
    """Say of each step of TARGET which implementation, handler and pool it gets in the running system, and why.

    \b
      dspex explain research.yaml
      dspex explain research                    a stored pipeline
      dspex explain predict --with signature="image: dspy.Image -> caption"

    TARGET is a .yaml or .json file, an operation or handler, or the name of a stored pipeline. Nothing is run. The exit
    code is 1 when a run would be refused.
    """
    async with connect(server, name="dspex-explain") as client:
        found = await _explained(client, target, parse_inputs(constants, None), implementation, pool)
    return show(found, as_json)


async def _explained(
    client: Client, target: str, constants: dict[str, Any], implementation: Any, pool: str | None
) -> Explanation:
    if Path(target).suffix in (".yaml", ".yml", ".json"):
        return await client.explain(load_pipeline(target))
    stored = {view.name for view in (await client.pipelines()).pipelines}
    if target in stored and target not in OPERATIONS:
        definition = (await client.get_pipeline(target)).definition
        assert definition is not None
        return await client.explain(definition)
    return await client.explain(target, constants=constants, implementation=implementation, pool=pool)


def show(found: Explanation, as_json: bool) -> int:
    """Print it; the exit code."""
    if as_json:
        print_json({"steps": found.steps, "error": found.error})
        return 1 if found.error else 0
    table = Table("", "step", "runs", "in pool", "why", box=None, pad_edge=False)
    for step in found.steps:
        table.add_row(step.path, step.name, _runs(step), step.pool, step.why)
    out.print(table)
    if found.error is not None:
        click.echo(f"a run would be refused: {found.error.code}: {found.error.message}", err=True)
    return 1 if found.error else 0


def _runs(step: Explained) -> str:
    if step.error is not None:
        return f"nothing: {step.error.code}"
    if not step.handler:
        return f"{step.kind} {step.wanted}".strip()
    return f"{step.handler} ({step.implementation})"
