"""``programs``: the registry of stored programs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import click
from rich.table import Table

from dspex_services.programs import Change, Origin, ProgramVersion, diff, from_file, reference, to_file
from dspex_services.programs.fitting import check_state
from dspex_services.programs.states import predictors
from dspex_services.programs.store import PRODUCTION, find

from .connecting import connect
from .shell import asynchronous, json_option, out, print_json, server_option

_SHOWN = 240
"""Characters of a value that a table shows."""

tag_option = click.option("--tag", default=PRODUCTION, show_default=True, help="The name the version goes by.")


@click.group(short_help="Stored programs: show, compare, promote, export, import.")
def programs() -> None:
    """Programs that optimizers made or people imported. A step names one with program: NAME@TAG.

    \b
    A PROGRAM is NAME (its newest version), NAME@TAG, NAME@NUMBER or NAME@sha256:….
    """


@programs.command("list", short_help="Every program.")
@server_option
@json_option
@asynchronous
async def list_(server: str | None, as_json: bool) -> None:
    """Every program with its newest version and its tags."""
    async with connect(server, name="dspex-programs") as client:
        found = await client.programs.list()
    if as_json:
        print_json({"programs": found})
        return
    if not found:
        out.print("no programs yet: dspex optimize makes one, dspex programs import takes one from a file")
        return
    table = Table("program", "versions", "tags", "module", "scores", "made", box=None, pad_edge=False)
    for program in found:
        newest = program.newest
        tags = ", ".join(f"{tag}={version}" for tag, version in sorted(program.tags.items()))
        table.add_row(program.name, str(newest.version), tags, *_about(newest))
    out.print(table)


@programs.command(short_help="One program: its versions, or one version's content.")
@click.argument("program")
@server_option
@json_option
@asynchronous
async def show(program: str, server: str | None, as_json: bool) -> None:
    """PROGRAM's versions; with @, the version's origin and what it tells the model."""
    async with connect(server, name="dspex-programs") as client:
        name, selector = reference(program)
        found = await client.programs.get(name)
        version = find(found, selector)
        state = await client.programs.state(version.digest) if "@" in program else None
    if as_json:
        print_json(found if state is None else {"version": version, "state": state})
    elif state is None:
        table = Table("version", "tags", "module", "scores", "made", "digest", box=None, pad_edge=False)
        for one in found.versions:
            tags = ", ".join(sorted(tag for tag, number in found.tags.items() if number == one.version))
            table.add_row(str(one.version), tags, *_about(one), one.digest[:19])
        out.print(table)
    else:
        _describe(name, version, state)


@programs.command("diff", short_help="What differs between two programs.")
@click.argument("before")
@click.argument("after")
@server_option
@json_option
@asynchronous
async def diff_(before: str, after: str, server: str | None, as_json: bool) -> None:
    """What AFTER changed of BEFORE: instructions, fields, demos, models, predictor by predictor."""
    async with connect(server, name="dspex-programs") as client:
        store = client.programs
        states = [await store.state((await store.version(one)).digest) for one in (before, after)]
    changes = diff(*states)
    if as_json:
        print_json({"changes": [change._asdict() for change in changes]})
        return
    for change in changes:
        _print_change(change)
    if not changes:
        out.print("no difference")


@programs.command(short_help="Let a tag mean a version.")
@click.argument("program")
@tag_option
@server_option
@json_option
@asynchronous
async def promote(program: str, tag: str, server: str | None, as_json: bool) -> None:
    """Make PROGRAM what the tag means. Running pools follow within a second; no restart."""
    async with connect(server, name="dspex-programs") as client:
        version = await client.programs.promote(program, tag)
    _say(reference(program)[0], tag, version, as_json)


@programs.command(short_help="Let a tag mean what it meant before.")
@click.argument("name")
@tag_option
@server_option
@json_option
@asynchronous
async def rollback(name: str, tag: str, server: str | None, as_json: bool) -> None:
    """Undo the tag's last promotion."""
    async with connect(server, name="dspex-programs") as client:
        version = await client.programs.rollback(name, tag)
    _say(name, tag, version, as_json)


@programs.command(short_help="Write a program to a file that DSPy loads.")
@click.argument("program")
@click.argument("file", type=click.Path(dir_okay=False))
@server_option
@asynchronous
async def export(program: str, file: str, server: str | None) -> None:
    """Write PROGRAM's state to FILE, which module.load("FILE") of plain DSPy reads."""
    async with connect(server, name="dspex-programs") as client:
        version = await client.programs.version(program)
        state = await client.programs.state(version.digest)
    to_file(state, file)
    out.print(f"wrote {file}: version {version.version} of {reference(program)[0]}")


@programs.command("import", short_help="Take a program from a file that DSPy saved.")
@click.argument("name")
@click.argument("file", type=click.Path(exists=True))
@click.option("--module", default="", help="What it is the state of: dspy.ChainOfThought, or package.module:Class.")
@click.option("--signature", help="The module's signature, so that dspy.Program can run it.")
@click.option("--tag", help="Promote it at once.")
@click.option("--note", default="", help="Anything worth remembering about it.")
@server_option
@json_option
@asynchronous
async def import_(
    name: str,
    file: str,
    module: str,
    signature: str | None,
    tag: str | None,
    note: str,
    server: str | None,
    as_json: bool,
) -> None:
    """Store FILE, which DSPy's save("….json") wrote, as NAME's next version. Pickles are refused."""
    state = from_file(file)
    check_state(state, module, signature)
    origin = Origin(module=module, signature=signature, note=note)
    async with connect(server, name="dspex-programs") as client:
        version = await client.programs.put(name, state, origin, tag=tag)
    if as_json:
        print_json(version)
    else:
        out.print(f"{name}@{version.version} {version.digest[:19]}" + (f", now {name}@{tag}" if tag else ""))


def _about(version: ProgramVersion) -> tuple[str, str, str]:
    origin = version.origin
    scores = ", ".join(f"{name} {score:g}" for name, score in origin.scores.items())
    made = datetime.fromtimestamp(version.created_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    return origin.module, scores, made


def _describe(name: str, version: ProgramVersion, state: dict[str, Any]) -> None:
    out.print(f"[bold]{name}@{version.version}[/] {version.digest}")
    origin = version.origin
    for field in origin.__struct_fields__:
        if value := getattr(origin, field):
            out.print(f"  {field.replace('_', ' ')}: {value}", markup=False)
    for predictor, content in predictors(state).items():
        out.print(f"[bold]{predictor}[/]")
        out.print(f"  {content.get('signature', {}).get('instructions', '')}", markup=False)
        for demo in content.get("demos", []):
            out.print(f"  demo {_short(demo)}", markup=False)


def _print_change(change: Change) -> None:
    out.print(f"[bold]{change.predictor}[/] {change.what} {change.kind}")
    if change.before is not None:
        out.print(f"  - {_short(change.before)}", style="red", markup=False)
    if change.after is not None:
        out.print(f"  + {_short(change.after)}", style="green", markup=False)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _say(name: str, tag: str, version: ProgramVersion, as_json: bool) -> None:
    if as_json:
        print_json(version)
    else:
        out.print(f"{name}@{tag} is now version {version.version} ({version.digest[:19]})")
