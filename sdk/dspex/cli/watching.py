"""Follow one session to its end and show it: a tree that changes in a terminal, a line an event elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any

import anyio
import msgspec
from rich.live import Live

from dspex_bus import Message, subjects
from dspex_bus.wire import Progress

from ..client import Client
from ..progression import Progression
from ..sessions import Session
from .drawing import line, tree
from .shell import live, out


async def follow(
    client: Client, session: Session, *, after: int = 0, quiet: bool = False, transient: bool = False
) -> Progression:
    """The run as it was at its end. A ``transient`` drawing is taken away then."""
    progression = Progression()
    drawing: AbstractContextManager[Any] = nullcontext()
    if live() and not quiet:
        drawing = Live(
            get_renderable=lambda: tree(progression), console=out, refresh_per_second=12, transient=transient
        )
    async with _progress(client, session, progression):
        with drawing:
            async for event in session.events(after=after):
                step = progression.fold(event)
                if step is not None and not quiet and not live():
                    out.print(line(step), soft_wrap=True)
    return progression


@asynccontextmanager
async def _progress(client: Client, session: Session, progression: Progression) -> AsyncIterator[None]:
    async def on_message(message: Message) -> None:
        *_, node, attempt = message.subject.split(".")
        progression.say(node, int(attempt), msgspec.json.decode(message.data, type=Progress))

    subscription = await client.bus.subscribe(subjects.session_progress(session.id), on_message)
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(2):
            await subscription.close()
