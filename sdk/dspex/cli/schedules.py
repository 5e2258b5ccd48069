"""``schedules``: pipelines that run by themselves, at set times."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.table import Table

from dspex_bus.errors import InvalidRequest
from dspex_bus.wire import ScheduleDefinition, ScheduleView

from .connecting import connect
from .shell import SECONDS, asynchronous, json_option, out, parse_inputs, print_json, server_option


@click.group(short_help="Run pipelines by themselves, at set times.")
def schedules() -> None:
    """Schedules: the router starts a stored pipeline by itself at set times, whichever router is there then. Each tick
    is one session, named after the schedule and the tick.

    \b
      dspex schedules set nightly report --cron "30 3 * * *" --timezone Europe/Berlin day=yesterday
      dspex schedules set pulse check --every 30
      dspex schedules set once report --at 2026-12-24T18:00:00+01:00
      dspex schedules list
    """


@schedules.command("set", short_help="Make or replace a schedule.")
@click.argument("name")
@click.argument("pipeline")
@click.argument("inputs", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--cron", metavar="EXPR", help="Minute, hour, day, month, weekday; with six fields, seconds first.")
@click.option("--every", "every_s", type=SECONDS, metavar="SECONDS", help="This often.")
@click.option("--at", metavar="TIME", help="Once, at an ISO 8601 moment.")
@click.option("--timezone", default="UTC", show_default=True, metavar="ZONE", help="Of --cron and --at.")
@click.option("--input", "document", metavar="JSON", help="The input as a JSON object, @FILE or -.")
@click.option("--timeout", "timeout_s", type=SECONDS, metavar="SECONDS", help="How long a run may take.")
@click.option(
    "--missed",
    type=click.Choice(["latest", "all", "none"]),
    default="latest",
    show_default=True,
    help="Which ticks to make up for that passed while no router was there.",
)
@click.option(
    "--overlap",
    type=click.Choice(["allow", "skip"]),
    default="allow",
    show_default=True,
    help="What to do with a tick while the run before it has not ended.",
)
@server_option
@json_option
@asynchronous
async def set_(
    name: str,
    pipeline: str,
    inputs: tuple[str, ...],
    document: str | None,
    server: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Run the stored PIPELINE by itself, as the schedule NAME, with the input given as FIELD=VALUE."""
    values = {"name": name, "pipeline": pipeline, "input": parse_inputs(inputs, document), **options}
    await _put([_definition(values, name)], server, as_json)


@schedules.command(short_help="Store schedules from files.")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False), metavar="FILE...")
@server_option
@json_option
@asynchronous
async def put(files: tuple[str, ...], server: str | None, as_json: bool) -> None:
    """Store the schedule in each FILE (.yaml or .json), replacing those of the same name."""
    await _put([_definition(_read(file), file) for file in files], server, as_json)


@schedules.command("list", short_help="List schedules.")
@server_option
@json_option
@asynchronous
async def list_(server: str | None, as_json: bool) -> None:
    """Every schedule with its last session and its next tick."""
    async with connect(server, name="dspex-schedules") as client:
        listed = await client.schedules()
    if as_json:
        print_json(listed)
        return
    if not listed.schedules:
        out.print("no schedules; make one with: dspex schedules set NAME PIPELINE --cron EXPR")
        return
    table = Table("schedule", "pipeline", "when", "next", "started", "last session", box=None, pad_edge=False)
    for view in listed.schedules:
        definition = view.definition
        pipeline = definition.pipeline or "(its own)"
        table.add_row(definition.name, pipeline, _when(definition), _next(view), str(view.state.started), _last(view))
    out.print(table)


@schedules.command(short_help="Show a schedule.")
@click.argument("name")
@server_option
@json_option
@asynchronous
async def show(name: str, server: str | None, as_json: bool) -> None:
    """Print the schedule NAME as YAML, as a file that put takes, and its next ticks; with --json, all there is."""
    import yaml

    async with connect(server, name="dspex-schedules") as client:
        view = await client.get_schedule(name)
    if as_json:
        print_json(view)
        return
    document = msgspec.to_builtins(view.definition)
    click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100), nl=False)
    click.echo(f"# next: {', '.join(_local(tick) for tick in view.next_ms) or 'never'}")
    click.echo(f"# last: {_last(view)}")


@schedules.command(short_help="Let a schedule's ticks pass.")
@click.argument("name")
@server_option
@json_option
@asynchronous
async def pause(name: str, server: str | None, as_json: bool) -> None:
    """Start nothing for the schedule NAME until it is resumed. What runs goes on."""
    async with connect(server, name="dspex-schedules") as client:
        view = await client.pause_schedule(name)
    print_json(view) if as_json else out.print(f"paused {name}; go on with: dspex schedules resume {name}")


@schedules.command(short_help="Let a paused schedule go on.")
@click.argument("name")
@server_option
@json_option
@asynchronous
async def resume(name: str, server: str | None, as_json: bool) -> None:
    """Let the schedule NAME go on. Ticks that passed meanwhile are not made up for."""
    async with connect(server, name="dspex-schedules") as client:
        view = await client.resume_schedule(name)
    print_json(view) if as_json else out.print(f"resumed {name}; next: {_next(view)}")


@schedules.command(short_help="Delete a schedule.")
@click.argument("name")
@server_option
@json_option
@asynchronous
async def delete(name: str, server: str | None, as_json: bool) -> None:
    """Delete the schedule NAME. Sessions that it started go on."""
    async with connect(server, name="dspex-schedules") as client:
        await client.delete_schedule(name)
    print_json({"deleted": name}) if as_json else out.print(f"deleted {name}")


async def _put(definitions: list[ScheduleDefinition], server: str | None, as_json: bool) -> None:
    async with connect(server, name="dspex-schedules") as client:
        stored = [await client.put_schedule(definition) for definition in definitions]
    if as_json:
        print_json({"schedules": stored})
        return
    for view in stored:
        out.print(f"{view.definition.name} runs {_when(view.definition)}; next: {_next(view)}")


def _read(file: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(Path(file).read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{file} cannot be read: {error}") from error


def _definition(values: Any, source: str) -> ScheduleDefinition:
    try:
        return msgspec.convert(values, ScheduleDefinition)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{source} is no schedule: {error}") from error


def _when(definition: ScheduleDefinition) -> str:
    if definition.cron is not None:
        return f"{definition.cron} ({definition.timezone})"
    return f"every {definition.every_s:g} s" if definition.every_s is not None else f"at {definition.at}"


def _next(view: ScheduleView) -> str:
    if view.definition.paused:
        return "paused"
    return _local(view.next_ms[0]) if view.next_ms else "never"


def _last(view: ScheduleView) -> str:
    if view.state.error is not None:
        return f"failed to start: {view.state.error.message}"
    return view.state.session or "none yet"


def _local(tick_ms: int) -> str:
    return datetime.fromtimestamp(tick_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
