"""``demo``: the research assistant on a whole system of its own, from nothing to an answer with its sources."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import click
from rich.markdown import Markdown
from rich.markup import escape
from rich.padding import Padding

from dspex_bus.errors import RunFailed, SetupError
from dspex_bus.wire import RunResult

from ..client import Client, connect
from ..progression import Progression
from .drawing import tree
from .shell import asynchronous, json_option, live, out, print_json
from .watching import follow

QUESTIONS = (
    "What happens to a run when a worker is killed?",
    "When is a failed step tried again?",
    "Can a JavaScript program watch a run?",
)
_PARTS = {"dspy": "dspy", "server": "", "search": "sklearn bm25s"}


@click.command(short_help="Run the research assistant on an embedded server.")
@click.option("--question", default=QUESTIONS[0], show_default=True, help="What to find out.")
@click.option(
    "--docs",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of documents (.md, .txt, .rst) to answer from; default: documents about dspex that come with it.",
)
@click.option("--pipeline", "show", is_flag=True, help="Print the pipeline's file and leave.")
@json_option
@asynchronous
async def demo(question: str, docs: Path | None, show: bool, as_json: bool) -> int:
    """Answer a question from a folder of documents, on a server, a router and pools that are started for it.

    \b
      dspex demo
      dspex demo --question "When is a failed step tried again?"
      dspex demo --docs ~/notes --question "What did we decide about caching?"
      dspex demo --pipeline > research.yaml

    A language model is used when the environment names one: DSPEX_MODEL, with OPENAI_API_KEY, ANTHROPIC_API_KEY or
    DSPEX_BASE_URL. Otherwise the offline LM answers, which picks sentences from what was found.
    """
    from ..demo import DOCUMENTS, PIPELINE

    if show:
        click.echo(PIPELINE.read_text("utf-8"), nl=False)
        return 0
    if not question.strip():
        raise click.UsageError('the question is empty; ask something: --question "…"')
    folder = docs or DOCUMENTS
    _check(folder)
    return await _demo(question.strip(), folder, own=docs is not None, as_json=as_json)


def _check(folder: Path) -> None:
    """What would go wrong later, said before anything is started."""
    from dspex_services.native.retrieval.documents import files

    missing = [extra for extra, modules in _PARTS.items() if not all(map(importlib.util.find_spec, modules.split()))]
    if missing:
        raise SetupError(
            f"the demo needs dspex's extras {', '.join(missing)}; install them: pip install 'dspex[all]'",
            details={"missing": missing},
        )
    files(folder)


async def _demo(question: str, folder: Path, *, own: bool, as_json: bool) -> int:
    from ..demo import research
    from ..system import OFFLINE_NOTE, SystemOptions, local_system

    if not as_json:
        out.print(f"[bold]question[/]   {escape(question)}", soft_wrap=True)
        out.print(f"[bold]documents[/]  {escape(str(folder))}", soft_wrap=True)
        out.print("starting a NATS server, a router and two pools …")
    async with (
        local_system(SystemOptions(native=1, dspy=2, documents=folder)) as system,
        connect(system.url, name="dspex-demo") as client,
    ):
        if not as_json:
            out.print(f"[bold]model[/]      {escape(system.model)}")
            if system.offline:
                out.print(f"[yellow]{OFFLINE_NOTE}[/]", soft_wrap=not live())
        session = await client.submit(research(), {"question": question})
        progression = await follow(client, session, quiet=as_json, transient=True)
        result = await session.result(timeout_s=30)
        if as_json:
            print_json(await _document(client, result, question, system.model, system.offline))
            return 0
    _show(result, progression)
    _suggest(question, folder, own=own)
    return 0


async def _document(client: Client, result: RunResult, question: str, model: str, offline: bool) -> dict[str, Any]:
    view = await client.session(result.session).view()
    return {
        "question": question,
        **_output(result),
        "model": model,
        "offline": offline,
        "session": result.session,
        "duration_ms": view.ended_ms - view.accepted_ms,
        "steps": view.steps,
    }


def _output(result: RunResult) -> dict[str, Any]:
    if result.status == "succeeded" and result.output is not None:
        return result.output
    error = result.error
    raise RunFailed(
        f"the research {result.status}: {error.message if error else 'no reason was given'}",
        code=error.code if error else None,
        details=error.details if error else {},
    )


def _show(result: RunResult, progression: Progression) -> None:
    if result.status != "succeeded":
        out.print(tree(progression))
    output = _output(result)
    out.print()
    if live():
        out.print(Padding(Markdown(output["markdown"]), (0, 2)))
    else:
        out.print(output["markdown"], markup=False, soft_wrap=True)
    out.print(tree(progression))


def _suggest(question: str, folder: Path, *, own: bool) -> None:
    other = next(one for one in QUESTIONS if one != question)
    out.print("\n[bold]What to try next[/]")
    if shutil.which("dspex") is None:
        _try(f". {shlex.quote(sys.prefix)}/bin/activate", "first, so that the shell finds dspex")
    if not own:
        _try(f'dspex demo --question "{other}"', "another question")
    _try('dspex demo --docs DIR --question "…"', "documents of your own")
    _try("dspex demo --pipeline > research.yaml", "the pipeline as a file, to change")
    _try(f"dspex up --documents {shlex.quote(str(folder))}", "the same system, kept running; then, beside it:")
    _try('dspex run research.yaml question="…"', "run the file")
    _try("dspex --help", "everything else")


def _try(command: str, what: str) -> None:
    out.print(f"  [cyan]{escape(command)}[/]  [dim]{what}[/]", soft_wrap=True)
