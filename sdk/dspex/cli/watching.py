"""Follow one session to its end and show it: a tree that changes in a terminal, a line an event elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, nullcontext
from typing import Any

import click
import msgspec
from rich.live import Live
from rich.text import Text

from dspex_bus import Message, subjects
from dspex_bus.wire import Progress, RunResult, StoredEvent, TokenPiece, TokenStatus, Usage

from .._feed import TokenEvent
from ..client import Client
from ..progression import Progression, StepProgress, field_name
from ..sessions import Session
from .drawing import line, tree
from .shell import count, live, out, print_json


async def follow(
    client: Client,
    session: Session,
    *,
    after: int = 0,
    quiet: bool = False,
    transient: bool = False,
    tokens: bool = False,
    begin: Callable[[], Awaitable[object]] | None = None,
) -> Progression:
    """The run as it was at its end. A ``transient`` drawing is taken away then. With ``tokens`` what models write is
    shown as it comes. ``begin`` is called once nothing can be missed any more."""
    progression = Progression()
    drawing: AbstractContextManager[Any] = nullcontext()
    if live() and not quiet:
        drawing = Live(
            get_renderable=lambda: tree(progression), console=out, refresh_per_second=12, transient=transient
        )
    printer = Printer(quiet or live())
    async with _progress(client, session, progression):
        with ExitStack() as stack:
            async for item in session.follow(after=after, tokens=tokens, begin=begin):
                if progression.plan is None:
                    stack.enter_context(drawing)
                if isinstance(item, StoredEvent):
                    printer.step(progression.fold(item))
                else:
                    progression.tell(item)
                    printer.told(*progression.place(item.node), item)
    return progression


def conclude(result: RunResult) -> None:
    """What a run came to: its output on standard output, or on standard error why there is none."""
    if result.status == "succeeded":
        print_json(result.output)
        if result.usage is not None:
            click.echo(_used(result.usage), err=True)
        return
    reason = f": {result.error.code}: {result.error.message}" if result.error else ""
    click.echo(f"{result.status}{reason}", err=True)
    click.echo(
        f"see it again: dspex watch {result.session}, or go on from there: dspex retry {result.session}", err=True
    )


def _used(usage: Usage) -> str:
    cost = "" if usage.cost is None else f", cost {usage.cost:.6g}"
    saved = f", {count(usage.saved_calls, 'call')} saved" if usage.saved_calls else ""
    tokens = f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out"
    return f"{count(usage.calls, 'LM call')}, {tokens}{cost}{saved}"


class Printer:
    """Where there is no terminal to draw in: a line for each step that has ended, and what models write as it comes,
    under the name of the step and the field."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._at: tuple[Any, ...] | None = None

    def step(self, step: StepProgress | None) -> None:
        if step is not None and not self._quiet:
            self._new_line()
            out.print(line(step), soft_wrap=True)

    def told(self, step: StepProgress | None, inner: str, told: TokenEvent) -> None:
        """``inner`` is what comes before the names of fields, of a step in a pipeline that is a step here."""
        piece = told.message
        if step is None or self._quiet:
            return
        if isinstance(piece, TokenStatus):
            self._new_line()
            out.print(Text(f"    {step.node.name}: {piece.text}", style="dim"), soft_wrap=True)
        if isinstance(piece, TokenPiece):
            at = (told.node, told.attempt, piece.call, piece.predictor, piece.field)
            if at != self._at:
                self._new_line()
                name = f"{step.node.name}.{inner}{field_name(piece)}"
                out.print(Text(f"    {name}: ", style="dim"), end="", soft_wrap=True)
            self._at = at
            out.print(Text(piece.text), end="", soft_wrap=True)
            out.file.flush()

    def _new_line(self) -> None:
        if self._at is not None:
            out.print()
        self._at = None


@asynccontextmanager
async def _progress(client: Client, session: Session, progression: Progression) -> AsyncIterator[None]:
    async def on_message(message: Message) -> None:
        *_, node, attempt = message.subject.split(".")
        progression.say(node, int(attempt), msgspec.json.decode(message.data, type=Progress))

    async with client.bus.subscribed(subjects.session_progress(session.id), on_message):
        yield
