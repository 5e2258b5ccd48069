"""``pipelines``: definitions stored on the server, which any client runs by name."""

from __future__ import annotations

from datetime import datetime

import click
import msgspec
from rich.table import Table

from ..loading import load_pipeline
from .connecting import connect
from .shell import asynchronous, json_option, out, print_json, server_option


@click.group(short_help="Store, list, show and delete pipelines.")
def pipelines() -> None:
    """Pipelines stored on the server. Any client runs one by its name, and a run keeps the version it started with.

    \b
      dspex pipelines put research.yaml
      dspex run research question="What is a pool?"
    """


@pipelines.command(short_help="Store pipelines from files.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@server_option
@json_option
@asynchronous
async def put(files: tuple[str, ...], server: str | None, as_json: bool) -> None:
    """Store the pipeline in each FILE (.yaml or .json) under its name. What is stored already under that name stays,
    as an earlier version."""
    definitions = [load_pipeline(file) for file in files]
    async with connect(server, name="dspex-pipelines") as client:
        stored = [await client.put_pipeline(definition) for definition in definitions]
    if as_json:
        print_json({"pipelines": [{"name": view.name, "version": view.version} for view in stored]})
        return
    for view in stored:
        out.print(f"stored {view.name}, version {view.version}; run it with: dspex run {view.name}")


@pipelines.command("list", short_help="List stored pipelines.")
@server_option
@json_option
@asynchronous
async def list_(server: str | None, as_json: bool) -> None:
    """Every stored pipeline with its newest version."""
    async with connect(server, name="dspex-pipelines") as client:
        listed = await client.pipelines()
    if as_json:
        print_json(listed)
        return
    if not listed.pipelines:
        out.print("no pipelines; store one with: dspex pipelines put FILE.yaml")
        return
    table = Table("pipeline", "version", "stored", box=None, pad_edge=False)
    for view in listed.pipelines:
        stored = datetime.fromtimestamp(view.stored_ms / 1000).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(view.name, view.version, stored)
    out.print(table)


@pipelines.command(short_help="Show a stored pipeline.")
@click.argument("name")
@click.option("--version", metavar="VERSION", help="An earlier version.")
@server_option
@json_option
@asynchronous
async def show(name: str, version: str | None, server: str | None, as_json: bool) -> None:
    """Print the pipeline NAME as YAML, as a file that put and run take; with --json, as it is stored."""
    import yaml

    async with connect(server, name="dspex-pipelines") as client:
        view = await client.get_pipeline(name, version)
    if as_json:
        print_json(view)
    else:
        document = msgspec.to_builtins(view.definition)
        click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100), nl=False)


@pipelines.command(short_help="Delete a stored pipeline.")
@click.argument("name")
@click.option("--version", metavar="VERSION", help="Only this earlier version.")
@server_option
@json_option
@asynchronous
async def delete(name: str, version: str | None, server: str | None, as_json: bool) -> None:
    """Delete the pipeline NAME with all its versions. Sessions that run go on with what they started with."""
    async with connect(server, name="dspex-pipelines") as client:
        await client.delete_pipeline(name, version)
    print_json({"deleted": name}) if as_json else out.print(f"deleted {name}" + (f" {version}" if version else ""))
