"""Files as inputs: kept on the bus, and named in the run."""

from __future__ import annotations

import mimetypes

import anyio
import click

from ..client import Client

files_option = click.option(
    "--file",
    "files",
    multiple=True,
    metavar="FIELD=PATH",
    help="A picture, a recording or a document as a field; it stays on the bus.",
)


async def attach_files(client: Client, pairs: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """A reference for each field."""
    found: dict[str, dict[str, str]] = {}
    for pair in pairs:
        field, separator, path = pair.partition("=")
        if not separator:
            raise click.UsageError(f"{pair!r} is not FIELD=PATH")
        try:
            data = await anyio.Path(path).read_bytes()
        except OSError as error:
            raise click.UsageError(f"cannot read {path}: {error.strerror}") from error
        found[field] = await client.attach(data, mimetypes.guess_type(path)[0])
    return found
