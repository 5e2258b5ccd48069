"""``dataset``: examples out of what production was asked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from dspex_services.evaluation.datasets import load_dataset, write_jsonl

from ..harvesting import Harvest, harvest
from .connecting import connect
from .shell import asynchronous, count, json_option, out, print_json, server_option

_STATUSES = ("succeeded", "failed", "cancelled", "timed_out")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Ago(click.ParamType[int]):
    """``90m``, ``12h``, ``7d``: milliseconds since the epoch, that long before now."""

    name = "ago"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            seconds = float(value[:-1]) * _UNITS[value[-1]]
        except (ValueError, KeyError, IndexError):
            self.fail(f"{value!r} is no span of time: 90m, 12h, 7d", param, ctx)
        return int((time.time() - seconds) * 1000)


@click.group(short_help="Data sets: from production sessions, and what is in a file.")
def dataset() -> None:
    """Examples for evaluating and optimizing programs."""


@dataset.command("from-sessions", short_help="Make examples of what sessions were asked and answered.")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--pipeline", help="Only sessions of this pipeline.")
@click.option("--status", "statuses", multiple=True, type=click.Choice(_STATUSES), default=("succeeded",))
@click.option("--since", type=Ago(), default=0, metavar="7d", help="Only sessions accepted within that time.")
@click.option("--until", type=Ago(), metavar="1h", help="Only sessions accepted before that long ago.")
@click.option("--feedback", metavar="SIGNAL", help="Only sessions that got this signal; its fields are right answers.")
@click.option("--min-score", type=float, help="Only where the signal's score is at least that.")
@click.option("--inputs", default="", metavar="A,B", help="The input fields to keep; default: all.")
@click.option("--outputs", default="", metavar="A,B", help="The output fields to keep; default: all.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--with-session", is_flag=True, help="Keep the session's id, in the field dspy_session.")
@server_option
@json_option
@asynchronous
async def from_sessions(
    file: str,
    pipeline: str | None,
    statuses: tuple[Any, ...],
    since: int,
    until: int | None,
    feedback: str | None,
    min_score: float | None,
    inputs: str,
    outputs: str,
    limit: int,
    with_session: bool,
    server: str | None,
    as_json: bool,
) -> None:
    """Write an example for each session that fits to FILE, as JSON Lines, the newest first and no two alike.

    \b
      dspex dataset from-sessions train.jsonl --pipeline qa --since 7d
      dspex dataset from-sessions train.jsonl --pipeline qa --feedback review --min-score 0.8 --outputs answer
    """
    wanted = Harvest(
        pipeline=pipeline,
        statuses=statuses,
        since_ms=since,
        until_ms=until,
        feedback=feedback,
        min_score=min_score,
        inputs=_names(inputs),
        outputs=_names(outputs),
        limit=limit,
        with_session=with_session,
    )
    async with connect(server, name="dspex-dataset") as client:
        rows = [row async for row in harvest(client, wanted)]
    written = write_jsonl(rows, file)
    if as_json:
        print_json({"file": file, "examples": written})
    else:
        out.print(f"wrote {count(written, 'example')} to {file}")


@dataset.command(short_help="What is in a data set.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--split", help="The part of a saved Hugging Face data set.")
@json_option
def show(file: Path, split: str | None, as_json: bool) -> None:
    """How many examples FILE has, their fields, and the digest that programs made from it carry."""
    found = load_dataset(file, split=split)
    document = {"examples": len(found), "fields": found.fields, "digest": found.digest}
    if as_json:
        print_json(document)
    else:
        out.print(f"{count(len(found), 'example')} with {', '.join(found.fields)}\n{found.digest}")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
