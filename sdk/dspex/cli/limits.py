"""``limits``: how many steps that share a key may run at once, and how many may start in a second."""

from __future__ import annotations

import click
import msgspec
from rich.table import Table

from dspex_bus.errors import InvalidRequest
from dspex_bus.wire import LimitDefinition

from .connecting import connect
from .shell import asynchronous, json_option, out, print_json, server_option


@click.group(short_help="Limit how many steps of a key run at once.")
def limits() -> None:
    """Limits hold over all routers and pools together. A step names those it is under (limits: [gpt]); the steps of a
    run for a tenant are under tenant.<tenant> too. Until there is a permit a step waits, the urgent first.

    \b
      dspex limits set gpt --concurrency 8 --per-second 20
      dspex limits set tenant.acme --concurrency 2
      dspex limits set "tenant.*" --per-second 5      each tenant that has no limit of its own
    """


@limits.command("set", short_help="Set or replace a limit.")
@click.argument("name")
@click.option("--concurrency", type=click.IntRange(1), metavar="N", help="Steps at once.")
@click.option(
    "--per-second", type=click.FloatRange(min=0, min_open=True), metavar="RATE", help="Steps started a second."
)
@click.option("--burst", type=click.IntRange(1), metavar="N", help="How many of them at once; default: one second's.")
@server_option
@json_option
@asynchronous
async def set_(
    name: str,
    concurrency: int | None,
    per_second: float | None,
    burst: int | None,
    server: str | None,
    as_json: bool,
) -> None:
    """Set the limit NAME. It holds for what is sent from then on."""
    values = {"name": name, "concurrency": concurrency, "per_second": per_second, "burst": burst}
    try:
        definition = msgspec.convert(values, LimitDefinition)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{name} is no limit: {error}") from error
    async with connect(server, name="dspex-limits") as client:
        view = await client.put_limit(definition)
    print_json(view) if as_json else out.print(f"{name}: {_what(definition)}", markup=False)


@limits.command("list", short_help="List limits.")
@server_option
@json_option
@asynchronous
async def list_(server: str | None, as_json: bool) -> None:
    """Every limit, and how many steps have a permit of it now."""
    async with connect(server, name="dspex-limits") as client:
        listed = await client.limits()
    if as_json:
        print_json(listed)
        return
    if not listed.limits:
        out.print("no limits; set one with: dspex limits set NAME --concurrency N")
        return
    table = Table("limit", "allows", "held", box=None, pad_edge=False)
    for view in listed.limits:
        table.add_row(view.definition.name, _what(view.definition), str(view.held))
    out.print(table)


@limits.command(short_help="Delete a limit.")
@click.argument("name")
@server_option
@json_option
@asynchronous
async def delete(name: str, server: str | None, as_json: bool) -> None:
    """Delete the limit NAME. What waits for a permit of it is sent."""
    async with connect(server, name="dspex-limits") as client:
        await client.delete_limit(name)
    print_json({"deleted": name}) if as_json else out.print(f"deleted {name}", markup=False)


def _what(definition: LimitDefinition) -> str:
    at_once = [f"{definition.concurrency} at once"] if definition.concurrency else []
    started = [f"{definition.per_second:g} a second"] if definition.per_second else []
    burst = [f"{definition.burst} of them in a burst"] if definition.burst else []
    return ", ".join(at_once + started + burst)
