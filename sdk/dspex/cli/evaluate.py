"""``evaluate``: a program over a data set, and against another."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dspex_bus.wire import StepDefinition
from dspex_services.evaluation.datasets import Dataset, load_dataset, write_jsonl

from ..client import Client
from ..evaluating import Evaluation, Row, Target, evaluate
from ..loading import load_pipeline
from .connecting import connect
from .shell import SECONDS, asynchronous, json_option, live, out, parse_inputs, print_json, server_option

_SHOWN = 60
_WORST = 5


def metric_of(text: str, field: str | None) -> str | dict[str, Any]:
    """``--metric``: a name, an import path, ``judge:CRITERIA`` or ``handler:NAME``."""
    kind, _, rest = text.partition(":")
    if kind in ("judge", "handler") and rest:
        return {kind: rest.strip()}
    return text if field is None else {"name": text, "field": field}


@click.command("evaluate", short_help="Score a program on a data set; compare two.")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option(
    "--program", "programs", multiple=True, metavar="NAME@TAG", help="A stored program; twice to compare two."
)
@click.option("--module", help="A module: dspy.ChainOfThought, or package.module:Class that a pool lists.")
@click.option("--with", "constants", multiple=True, metavar="NAME=VALUE", help="A constant of the module: signature=…")
@click.option("--pipeline", "pipelines", multiple=True, metavar="FILE", help="A pipeline; twice to compare two.")
@click.option("--metric", default="exact_match", show_default=True, metavar="NAME|PATH|judge:TEXT|handler:NAME")
@click.option("--field", help="The one field that a built-in metric compares.")
@click.option("--inputs", metavar="A,B", help="The fields that are asked; default: those of the signature.")
@click.option("--split", help="The part of a saved Hugging Face data set.")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many examples.")
@click.option("--parallel", type=click.IntRange(1), help="Examples in work at once; default: twice the pools' slots.")
@click.option("--timeout", type=SECONDS, default=86_400.0, show_default=True, help="Seconds the whole may take.")
@click.option("--save", type=click.Path(dir_okay=False), help="Write every example with its score, as JSON Lines.")
@server_option
@json_option
@asynchronous
async def evaluate_(
    dataset: Path,
    programs: tuple[str, ...],
    module: str | None,
    constants: tuple[str, ...],
    pipelines: tuple[str, ...],
    metric: str,
    field: str | None,
    inputs: str | None,
    split: str | None,
    limit: int | None,
    parallel: int | None,
    timeout: float,
    save: str | None,
    server: str | None,
    as_json: bool,
) -> None:
    """Run a program on every example of DATASET (.jsonl, .json, .csv, or a folder that Hugging Face's datasets saved)
    and score its answers.

    \b
      dspex evaluate dev.jsonl --program qa@production --metric f1 --field answer
      dspex evaluate dev.jsonl --program qa@production --program qa@7
      dspex evaluate dev.jsonl --module dspy.Predict --with signature="question -> answer"

    It is a durable run: its session can be watched, cancelled and read like any other. With two programs, the
    difference comes with its 95 % confidence interval, from a paired bootstrap.
    """
    examples = load_dataset(dataset, split=split).first(limit)
    targets = _targets(programs, module, constants, pipelines)
    found: list[Evaluation] = []
    async with connect(server, name="dspex-evaluate") as client:
        for target in targets:
            options = {
                "metric": metric_of(metric, field),
                "inputs": inputs.split(",") if inputs else None,
                "parallel": parallel,
                "timeout_s": timeout,
            }
            found.append(await _evaluated(client, target, examples, options, quiet=as_json))
    if save:
        write_jsonl((record for one in found for record in _records(one)), save)
    comparison = found[0].against(found[1]) if len(found) == 2 else None
    if as_json:
        document: dict[str, Any] = {"evaluations": [_document(one) for one in found]}
        print_json(document if comparison is None else {**document, "comparison": comparison})
        return
    _print_scores(found)
    if comparison is not None:
        verdict = "[green]it differs[/]" if comparison.significant else "[yellow]no certain difference[/]"
        out.print(
            f"difference {comparison.difference:+.2f} points, 95 % interval {comparison.low:+.2f} to "
            f"{comparison.high:+.2f}: {verdict}; {comparison.better} better, {comparison.worse} worse, "
            f"{comparison.same} the same"
        )
    else:
        _print_worst(found[0])


def _targets(
    programs: tuple[str, ...], module: str | None, constants: tuple[str, ...], pipelines: tuple[str, ...]
) -> list[Target]:
    targets: list[Target] = [*programs, *map(load_pipeline, pipelines)]
    if module is not None:
        targets.append(StepDefinition(module=module, with_=parse_inputs(constants, None)))
    elif constants:
        raise click.UsageError("--with is for --module")
    if not 1 <= len(targets) <= 2:
        raise click.UsageError("say what to evaluate, once or twice: --program, --pipeline, --module")
    return targets


async def _evaluated(
    client: Client, target: Target, examples: Dataset, options: dict[str, Any], *, quiet: bool
) -> Evaluation:
    shown: list[Evaluation] = []

    def on_row(report: Evaluation, row: Row) -> None:
        shown[:] = [report]

    drawing: AbstractContextManager[Any] = nullcontext()
    if live() and not quiet:
        drawing = Live(
            get_renderable=lambda: _progress(shown[0]) if shown else Text("starting …", style="dim"),
            console=out,
            refresh_per_second=8,
            transient=True,
        )
    with drawing:
        return await evaluate(client, target, examples, on_row=on_row, **options)


def _progress(report: Evaluation) -> Text:
    done = max(1, report.done)
    text = Text.assemble((report.target, "bold"), f"  {report.done} of {len(report.rows)}")
    text.append(f"  score {100 * sum(report.scores) / done:.1f}", style="cyan")
    text.append(f"  {report.failed} failed" if report.failed else "", style="red")
    text.append(f"  {report.usage.calls} calls", style="dim")
    return text


def _print_scores(found: list[Evaluation]) -> None:
    table = Table("program", "score", "95 % interval", "examples", "failed", "calls", "saved", "tokens", "cost", "time")
    table.box, table.pad_edge = None, False
    for one in found:
        total, usage = one.summary, one.usage
        table.add_row(
            one.target,
            f"{total.score:.2f}",
            f"{total.low:.2f} to {total.high:.2f}",
            str(total.examples),
            str(total.failed),
            str(usage.calls),
            str(usage.saved_calls),
            str(usage.input_tokens + usage.output_tokens),
            "" if usage.cost is None else f"{usage.cost:.4f}",
            f"{one.took_s:.1f} s",
        )
    out.print(table)
    out.print("[dim]sessions: " + ", ".join(one.session for one in found) + "[/]")


def _print_worst(report: Evaluation) -> None:
    wrong = [row for row in report.rows if (row.score or 0.0) < 1][:_WORST]
    for row in wrong:
        why = row.error or row.feedback
        out.print(f"  {row.score or 0:.2f}  {_short(row.example)}  {_short(why)}", markup=False)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _records(report: Evaluation) -> list[dict[str, Any]]:
    return [
        {
            "target": report.target,
            "example": row.example,
            "prediction": row.prediction,
            "score": row.score or 0.0,
            "feedback": row.feedback,
            "error": row.error,
        }
        for row in report.rows
    ]


def _document(report: Evaluation) -> dict[str, Any]:
    return {
        "target": report.target,
        "metric": report.metric,
        "session": report.session,
        "dataset": report.dataset.digest,
        **msgspec.to_builtins(report.summary),
        "usage": msgspec.to_builtins(report.usage),
        "seconds": report.took_s,
    }
