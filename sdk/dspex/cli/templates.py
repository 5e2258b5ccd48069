"""``templates``: the registry of stored templates."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.table import Table

from dspex_bus.errors import InvalidRequest
from dspex_services.templates import TemplateVersion

from .connecting import connect
from .shell import asynchronous, count, json_option, out, print_json, server_option


@click.group(short_help="Stored templates: put, list, show, delete.")
def templates() -> None:
    """Templates kept on the server. A step names one with template_name: NAME, or NAME@VERSION.

    \b
      dspex templates put greeting greeting.j2
      dspex call template --with template_name=greeting name=Ada
    """


@templates.command(short_help="Store a template from a file.")
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--note", default="", help="Anything worth remembering about it.")
@server_option
@json_option
@asynchronous
async def put(name: str, file: Path, note: str, server: str | None, as_json: bool) -> None:
    """Store FILE (- is standard input) as NAME's next version. One that does not compile is refused, with line and
    column. The same content as the newest version's is that version again."""
    source = _read(file)
    async with connect(server, name="dspex-templates") as client:
        version = await client.templates.put(name, source, note=note)
    if as_json:
        print_json(version)
    else:
        out.print(f"{name}@{version.version} {version.digest[:19]}, reads: {', '.join(version.variables) or 'nothing'}")


@templates.command("list", short_help="Every template.")
@server_option
@json_option
@asynchronous
async def list_(server: str | None, as_json: bool) -> None:
    """Every template with its newest version."""
    async with connect(server, name="dspex-templates") as client:
        found = await client.templates.list()
    if as_json:
        print_json({"templates": found})
        return
    if not found:
        out.print("no templates; store one with: dspex templates put NAME FILE")
        return
    table = Table("template", "version", "reads", "note", "stored", box=None, pad_edge=False)
    for template in found:
        table.add_row(template.name, *_about(template.newest))
    out.print(table)


@templates.command(short_help="A template's source, or its versions.")
@click.argument("template")
@click.option("--versions", is_flag=True, help="List the versions in place of the source.")
@server_option
@json_option
@asynchronous
async def show(template: str, versions: bool, server: str | None, as_json: bool) -> None:
    """Print the source of TEMPLATE (NAME, NAME@VERSION or NAME@sha256:…) as it was stored."""
    name = template.partition("@")[0]
    async with connect(server, name="dspex-templates") as client:
        stored = await client.templates.get(name)
        version = await client.templates.version(template)
        source = await client.templates.content(name, version.digest)
    if as_json:
        print_json({"template": stored} if versions else {"version": version, "source": source})
    elif versions:
        table = Table("version", "reads", "note", "stored", "digest", box=None, pad_edge=False)
        for one in stored.versions:
            table.add_row(*_about(one), one.digest[:19])
        out.print(table)
    else:
        click.echo(source, nl=not source.endswith("\n"))


@templates.command(short_help="Delete a template, or one version of it.")
@click.argument("template")
@server_option
@json_option
@asynchronous
async def delete(template: str, server: str | None, as_json: bool) -> None:
    """Delete TEMPLATE with all its versions, or with NAME@VERSION that one."""
    async with connect(server, name="dspex-templates") as client:
        gone = await client.templates.delete(template)
    if as_json:
        print_json({"deleted": gone})
    else:
        out.print(f"deleted {count(len(gone), 'version')} of {template.partition('@')[0]}")


def _about(version: TemplateVersion) -> tuple[str, str, str, str]:
    stored = datetime.fromtimestamp(version.created_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    return str(version.version), ", ".join(version.variables), version.note, stored


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{file} is not UTF-8: {error}", code="invalid_input") from error
