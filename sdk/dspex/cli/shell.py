"""What the commands share: running a coroutine, the server option, and where output goes."""

from __future__ import annotations

import functools
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import click
import msgspec
from rich.console import Console

from dspex_bus.process import loop_options

_PIPED_WIDTH = 240
"""Where no terminal sets a width, lines are as long as they are: whoever reads them may be a program."""

out = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def live() -> bool:
    """Progress is drawn in a terminal, and printed line by line elsewhere."""
    return out.is_terminal


def server_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--server", envvar="DSPEX_SERVER", metavar="URL", help="NATS server, default nats://127.0.0.1:4222."
    )(command)


SECONDS = click.FloatRange(min=0, min_open=True)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for a program to read.")(command)


retention_option = click.option(
    "--retention-days",
    type=click.FloatRange(min=0),
    default=7.0,
    show_default=True,
    help="How long a session's journal is kept after its end.",
)

largest_option = click.option(
    "--largest-mb",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="How many mebibytes an input, an output or a result may have.",
)


templates_option = click.option(
    "--templates",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    help="The folder of templates that steps may name as files; default: none.",
)


pool_queue_option = click.option(
    "--pool-queue",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="Steps that may wait for a pool before runs that need it are answered 'overloaded'.",
)


def asynchronous(function: Callable[..., Awaitable[int | None]]) -> Callable[..., None]:
    """Run a command's coroutine, which returns its exit code (None: 0); SIGTERM ends it like Ctrl-C, with everything
    it started cleaned up."""

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> None:
        sys.exit(anyio.run(_until_told, functools.partial(function, *args, **kwargs), backend_options=loop_options()))

    return command


async def _until_told(function: Callable[[], Awaitable[int | None]]) -> int:
    """The command's exit code."""
    code: int | None = None
    async with anyio.create_task_group() as group:
        told: list[int] = []

        async def listen() -> None:
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for received in signals:
                    told.append(received)
                    group.cancel_scope.cancel()

        group.start_soon(listen)
        code = await function()
        group.cancel_scope.cancel()
    if told and told[0] == signal.SIGINT:
        raise KeyboardInterrupt
    return code or 0


def print_json(value: Any) -> None:
    """One JSON document, indented in a terminal and on one line elsewhere."""
    encoded = msgspec.json.encode(value)
    if sys.stdout.isatty():
        encoded = msgspec.json.format(encoded, indent=2)
    click.echo(encoded.decode())


def say_ready(text: str, document: dict[str, Any], as_json: bool) -> None:
    """What a long-running command prints once everything it started is ready, for a person or for a program."""
    if as_json:
        print_json(document)
        sys.stdout.flush()
    else:
        out.print(text, soft_wrap=True)


def detached(session: str, hint: str, as_json: bool) -> None:
    """The id alone on standard output, where a script takes it from."""
    if as_json:
        print_json({"session": session})
        return
    click.echo(session)
    click.echo(hint, err=True)


def count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def parse_inputs(pairs: tuple[str, ...], document: str | None) -> dict[str, Any]:
    """``field=value`` pairs over a JSON object. A value that is JSON is taken as JSON, else as text; ``@file`` is what
    the file holds, and ``@@`` begins a text with an @. Of the object, ``-`` reads standard input and ``@file`` a
    file."""
    values: dict[str, Any] = _object(document) if document else {}
    for pair in pairs:
        field, separator, text = pair.partition("=")
        if not separator:
            raise click.UsageError(f"{pair!r} is not field=value")
        values[field] = _value(text)
    return values


def _object(document: str) -> dict[str, Any]:
    text = _read(document) if document == "-" or document.startswith("@") else document
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise click.UsageError(f"the input is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise click.UsageError('the input must be a JSON object, such as {"question": "…"}')
    return value


def _read(source: str) -> str:
    if source == "-":
        return sys.stdin.read()
    try:
        return Path(source[1:]).read_text("utf-8")
    except OSError as error:
        raise click.UsageError(f"cannot read {source[1:]}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"cannot read {source[1:]}: {error}") from error


def _content(source: str) -> Any:
    """A file's text, or the value that a .json file holds."""
    try:
        text = _read(source)
        return json.loads(text) if source.endswith(".json") else text
    except json.JSONDecodeError as error:
        raise click.UsageError(f"{source[1:]} is not JSON: {error}") from error
    except click.UsageError as error:
        raise click.UsageError(f"{error.message}; a text that begins with @ is written @{source}") from error


def _value(text: str) -> Any:
    if text.startswith("@@"):
        return text[1:]
    if text.startswith("@"):
        return _content(text)
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
