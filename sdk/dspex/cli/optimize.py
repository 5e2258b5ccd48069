"""``optimize``: a job begun or followed, with its scores drawn as they come."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import anyio
import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from dspex_bus.errors import RunFailed
from dspex_services.optimizing import JobProgress, Trial

from ..jobs import load_job
from ..optimizing import OptimizationJob, Optimized
from .connecting import connect
from .shell import asynchronous, detached, json_option, live, out, print_json, server_option

_HEIGHT = 8
_LABEL = 7


@click.command(short_help="Make a better program with one of DSPy's optimizers.")
@click.argument("job_file", metavar="[JOB.yaml]", required=False)
@click.option("--follow", metavar="SESSION", help="Follow a job that runs already.")
@click.option("--session", metavar="ID", help="Your own id for the job's session: the same id twice is one job.")
@click.option("--detach", is_flag=True, help="Print the session id once the job is stored, and leave.")
@server_option
@json_option
@asynchronous
async def optimize(
    job_file: str | None, follow: str | None, session: str | None, detach: bool, server: str | None, as_json: bool
) -> int:
    """Run the job in JOB.yaml and show how far it is.

    \b
      module: dspy.ChainOfThought          # or start: qa@production
      signature: "question -> answer"
      trainset: train.jsonl                # valset: dev.jsonl
      metric: exact_match                  # or package.module:function, {judge: …}, {handler: …}
      optimizer: miprov2
      options: {num_candidates: 6}
      program: qa                          # what the result is called
      promote: production
      budget: {calls: 2000, usd: 5}

    It is a durable job: Ctrl-C leaves it running, a killed worker is replaced, and what was paid for is not paid for
    again. dspex cancel SESSION ends it and keeps the best program so far.
    """
    if (job_file is None) == (follow is None):
        raise click.UsageError("give a job file, or --follow a session")
    async with connect(server, name="dspex-optimize") as client:
        if job_file is None:
            job = client.optimization(str(follow))
        else:
            module, trainset, given = load_job(job_file)
            job = await client.start_optimizing(module, trainset, session=session, **given)
        if detach:
            detached(job.session.id, f"it runs; follow it with: dspex optimize --follow {job.session.id}", as_json)
            return 0
        try:
            await _follow(job, quiet=as_json)
        except anyio.get_cancelled_exc_class():
            click.echo(
                f"job {job.session.id} goes on; follow it: dspex optimize --follow {job.session.id}, "
                f"or end it and keep its best program: dspex cancel {job.session.id}",
                err=True,
            )
            raise
        return await _end(job, as_json)


async def _follow(job: OptimizationJob, *, quiet: bool) -> None:
    said: list[JobProgress] = []
    told = 0
    drawing: AbstractContextManager[Any] = nullcontext()
    if live() and not quiet:
        drawing = Live(
            get_renderable=lambda: picture(job.session.id, said[-1] if said else None, out.width),
            console=out,
            refresh_per_second=4,
        )
    with drawing:
        async for progress in job.progress():
            said[:] = [progress]
            if quiet or live():
                continue
            for trial in progress.history[told - progress.trials or None :] if progress.trials > told else ():
                out.print(line(progress, trial), soft_wrap=True)
            told = progress.trials


async def _end(job: OptimizationJob, as_json: bool) -> int:
    try:
        found = await job.result(timeout_s=30)
    except RunFailed as error:
        record = await job.record()
        if as_json or record is None or not record.program:
            raise
        click.echo(f"{error.message}\nthe best program so far is kept: {record.program}", err=True)
        return 1
    if as_json:
        print_json(found)
    else:
        out.print(verdict(found), soft_wrap=True)
    return 0


def verdict(found: Optimized) -> Text:
    text = Text.assemble((found.program, "bold green"), f"  {found.digest[:19]}")
    if found.score is not None:
        text.append(f"\nscore {found.score:g}")
        text.append(f", before {found.baseline:g}" if found.baseline is not None else "")
    if found.stopped:
        text.append(f"\nstopped early: {found.stopped}", style="yellow")
    text.append(f"\n{_spent(found.usage)}, {found.seconds:.1f} s", style="dim")
    text.append(f"\nuse it in a step with  program: {found.program}", style="dim")
    return text


def line(progress: JobProgress, trial: Trial) -> Text:
    of = f" of {progress.of}" if progress.of else ""
    part = "" if trial.full else f" on {trial.examples}"
    best = f", best {progress.best:g}" if progress.best is not None else ""
    return Text(f"trial {trial.number}{of}: {trial.score:g}{part}{best}, {_spent(progress.usage)}")


def picture(session: str, progress: JobProgress | None, width: int) -> Group:
    """The job's state and its scores, as wide as the terminal."""
    if progress is None:
        return Group(Text(f"job {session} waits for a worker of the pool optimize …", style="dim"))
    head = Text.assemble((progress.phase, "bold cyan"), f"  {session}")
    if progress.trials:
        head.append(f"  trial {progress.trials}" + (f" of {progress.of}" if progress.of else ""))
    if progress.examples_of:
        head.append(f"  {progress.examples} of {progress.examples_of} examples")
    if progress.restarts:
        head.append(f"  restarted {progress.restarts}×", style="yellow")
    numbers = Text.assemble(
        ("best ", "dim"),
        (_score(progress.best), "bold green"),
        ("  before ", "dim"),
        _score(progress.baseline),
        ("  last ", "dim"),
        _score(progress.score),
        (f"  {_spent(progress.usage)}  {progress.took_s:.0f} s", "dim"),
    )
    if progress.left_s is not None:
        numbers.append(f"  about {progress.left_s:.0f} s left", style="dim")
    return Group(head, numbers, *chart(progress.history, width - _LABEL - 2))


def chart(history: tuple[Trial, ...], width: int, height: int = _HEIGHT) -> list[Text]:
    """A column for each of the last trials: ● a full evaluation, ○ one on a part, ─ the best so far."""
    if not history or width < 1:
        return []
    best, bests = None, []
    for trial in history:
        if trial.full:
            best = trial.score if best is None else max(best, trial.score)
        bests.append(best)
    shown, bests = history[-width:], bests[-width:]
    values = [trial.score for trial in shown] + [score for score in bests if score is not None]
    low, high = min(values), max(values)
    height = height if high > low else 1
    step = (high - low) / (height - 1) if height > 1 else 1.0

    def row_of(score: float) -> int:
        return round((score - low) / step)

    lines = []
    for row in reversed(range(height)):
        text = Text(f"{low + step * row:{_LABEL}.1f} ┤", style="dim")
        for trial, so_far in zip(shown, bests, strict=True):
            if row_of(trial.score) == row:
                text.append("●" if trial.full else "○", style="cyan" if trial.full else "dim")
            elif so_far is not None and row_of(so_far) == row:
                text.append("─", style="green")
            else:
                text.append(" ")
        lines.append(text)
    return lines


def _score(score: float | None) -> str:
    return "–" if score is None else f"{score:g}"


def _spent(usage: Any) -> str:
    tokens = usage.input_tokens + usage.output_tokens
    cost = "" if usage.cost is None else f", cost {usage.cost:.4f}"
    saved = f" ({usage.saved_calls} saved)" if usage.saved_calls else ""
    return f"{usage.calls} calls{saved}, {tokens} tokens{cost}"
