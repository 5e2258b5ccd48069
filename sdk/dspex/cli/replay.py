"""``replay``: a session's decisions again, from its journal, each shown."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from dspex_bus.wire import (
    SessionAccepted,
    SessionSnapshot,
    StepSucceeded,
    StoredEvent,
    event_type,
    joined,
    refuse_newer,
)
from dspex_router.core import (
    Command,
    Dispatch,
    Finish,
    Recorded,
    RecordEnd,
    RecordOutcome,
    Saved,
    Session,
    SetTimer,
    StartChild,
    TellCancelled,
    TellChild,
    decide,
    restore,
)

from .connecting import connect
from .shell import asynchronous, json_option, out, print_json, server_option


@click.command(short_help="Show a session's decisions again, from its journal.")
@click.argument("session")
@server_option
@json_option
@asynchronous
async def replay(session: str, server: str | None, as_json: bool) -> None:
    """Fold the journal of SESSION once more, event by event, and print what was decided at each: which steps were sent,
    abandoned or awaited. Nothing is sent or stored. The steps' places are what `dspex fork` takes. Of a very long
    session the decisions are shown from where its journal was last compacted."""
    state: Session | None = None
    first: Recorded | None = None
    async with connect(server, name="dspex-replay") as client:
        async for stored in _journal(client.session(session)):
            recorded = _recorded(stored)
            if isinstance(stored.event, SessionSnapshot):
                assert first is not None  # the beginning comes before what sums up
                state, commands = restore(first, msgspec.convert(stored.event.state, Saved)), list[Command]()
            else:
                if isinstance(stored.event, SessionAccepted):
                    refuse_newer(stored.event)
                    first = recorded
                state, commands = decide(state, recorded)
            _show(stored, commands, state, as_json)


async def _journal(session: Any) -> Any:
    """What is stored now, to its end, without waiting for more."""
    after, ended = 0, False
    while not ended:
        page = await session.page(after, snapshots=True)
        for event in joined(page.events):
            yield event
        after, ended = page.next_after, page.ended or not page.events


def _recorded(stored: StoredEvent) -> Recorded:
    return Recorded(
        sequence=stored.sequence,
        time_ms=stored.time_ms,
        event=stored.event,
        pool=stored.pool,
        node=stored.node,
        attempt=stored.attempt,
    )


def _show(stored: StoredEvent, commands: list[Command], state: Session, as_json: bool) -> None:
    about = event_type(stored.event).removeprefix("dspex.")
    place = f"{stored.node} attempt {stored.attempt}" if stored.node else ""
    along = [followed.node for followed in stored.event.then] if isinstance(stored.event, StepSucceeded) else []
    if as_json:
        decisions = [{"command": type(command).__name__, "what": _told(command)} for command in commands]
        event = {"sequence": stored.sequence, "time_ms": stored.time_ms, "event": about, "node": stored.node}
        print_json({**event, "with": along, "phase": state.phase, "commands": decisions})
        return
    if isinstance(stored.event, SessionSnapshot):
        place = f"{stored.event.length} events, this one among them, are summed up: what was decided is told no more"
    place += f", with {', '.join(along)}" if along else ""
    out.print(f"[bold]{stored.sequence}[/]  {about}  {place}", soft_wrap=True)
    for command in commands:
        out.print(f"    → {_told(command)}", soft_wrap=True, markup=False)


def _told(command: Command) -> str:
    """One line for people."""
    match command:
        case Dispatch(pool=pool, task=task):
            along = "".join(f", with {following.node}" for following in task.then[:1])
            along += f" to {task.then[-1].node}" if len(task.then) > 1 else ""
            return f"send {task.node} attempt {task.attempt} ({task.handler}) to the pool {pool}{along}"
        case StartChild(accepted=accepted):
            return f"start the session {accepted.session} for the pipeline {accepted.plan.pipeline}"
        case TellChild(session=session, verb=verb):
            return f"{verb} the session {session}"
        case RecordOutcome(node=node, attempt=attempt, outcome=outcome):
            return f"record {event_type(outcome).removeprefix('dspex.')} for {node} attempt {attempt}"
        case RecordEnd(ended=ended):
            return f"record the end: {ended.status}"
        case SetTimer(at_ms=at_ms, event=event):
            return f"set a timer for {type(event).__name__} at {at_ms}"
        case TellCancelled(attempts=attempts):
            named = ", ".join(f"{node} attempt {attempt}" for node, attempt in attempts)
            return f"tell workers that nobody wants {named or 'anything of the session'} any more"
        case Finish(result=result):
            size = len(msgspec.json.encode(result))
            return f"answer with the result ({result.status}, {size} bytes), and forget the session"
