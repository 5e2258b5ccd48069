"""``cancel``, ``pause``, ``resume``, ``signal``, ``retry``, ``fork``: what is done to a session from outside."""

from __future__ import annotations

import click

from dspex_bus.wire import SessionView

from ..sessions import Session
from .connecting import connect
from .shell import asynchronous, json_option, out, parse_inputs, print_json, server_option


@click.command(short_help="End a session.")
@click.argument("session")
@click.option("--reason", default="", help="Why, kept in its journal.")
@server_option
@json_option
@asynchronous
async def cancel(session: str, reason: str, server: str | None, as_json: bool) -> None:
    """Cancel SESSION: its queued steps never start, and its running ones are told to stop."""
    async with connect(server, name="dspex-cancel") as client:
        view = await client.session(session).cancel(reason)
    _show(view, "cancel requested", as_json)


@click.command(short_help="Let a session start nothing more for now.")
@click.argument("session")
@click.option("--reason", default="", help="Why, kept in its journal.")
@server_option
@json_option
@asynchronous
async def pause(session: str, reason: str, server: str | None, as_json: bool) -> None:
    """Pause SESSION: what runs goes on to its end, nothing is started until `dspex resume`. Its deadline stays."""
    async with connect(server, name="dspex-pause") as client:
        view = await client.session(session).pause(reason)
    _show(view, f"paused; go on with: dspex resume {session}", as_json)


@click.command(short_help="Let a paused session go on.")
@click.argument("session")
@server_option
@json_option
@asynchronous
async def resume(session: str, server: str | None, as_json: bool) -> None:
    """Resume SESSION after `dspex pause`."""
    async with connect(server, name="dspex-resume") as client:
        view = await client.session(session).resume()
    _show(view, "goes on", as_json)


@click.command(short_help="Send a session a signal that it waits for.")
@click.argument("session")
@click.argument("name")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--input", "document", metavar="JSON", help="The payload as a JSON object, @FILE, or - for stdin.")
@click.option("--id", "id", help="Your own id for the signal: the same id twice is one signal.")
@server_option
@json_option
@asynchronous
async def signal(
    session: str,
    name: str,
    fields: tuple[str, ...],
    document: str | None,
    id: str | None,
    server: str | None,
    as_json: bool,
) -> None:
    """Send SESSION the signal NAME; its fields are what the waiting step writes. A signal sent before the session waits
    for it is kept.

    \b
      dspex signal 9ca03e07 approval approved=true by=Ada
    """
    async with connect(server, name="dspex-signal") as client:
        created = await client.session(session).signal(name, parse_inputs(fields, document), id=id)
    if as_json:
        print_json({"session": session, "name": name, "created": created})
    else:
        out.print(f"session {session}: signal {name} " + ("is stored" if created else "was there already"))


@click.command(short_help="Go on from what failed, as a new session.")
@click.argument("session")
@click.option("--timeout", type=float, help="Seconds the new run may take; default: as long as the old one might.")
@server_option
@json_option
@asynchronous
async def retry(session: str, timeout: float | None, server: str | None, as_json: bool) -> None:
    """Retry SESSION, which ended without success: a new session keeps the results of the steps that succeeded and runs
    the others again."""
    async with connect(server, name="dspex-retry") as client:
        made = await client.session(session).retry(timeout_s=timeout)
    _made(made, as_json)


@click.command(short_help="Run a session again from one of its steps.")
@click.argument("session")
@click.argument("step", metavar="STEP")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--input", "document", metavar="JSON", help="Changed input as a JSON object, @FILE, or - for stdin.")
@click.option("--timeout", type=float, help="Seconds the new run may take; default: as long as the old one might.")
@server_option
@json_option
@asynchronous
async def fork(
    session: str,
    step: str,
    fields: tuple[str, ...],
    document: str | None,
    timeout: float | None,
    server: str | None,
    as_json: bool,
) -> None:
    """Fork SESSION at STEP (its name, or its place, such as 2 or 2-0: `dspex replay` shows them): a new session keeps
    what was done before that step, takes changed input fields, and runs from there. SESSION itself stays as it is."""
    async with connect(server, name="dspex-fork") as client:
        made = await client.session(session).fork(step, parse_inputs(fields, document), timeout_s=timeout)
    _made(made, as_json)


def _show(view: SessionView, what: str, as_json: bool) -> None:
    print_json(view) if as_json else out.print(f"session {view.session}: {what} ({view.status})")


def _made(session: Session, as_json: bool) -> None:
    if as_json:
        print_json({"session": session.id})
    else:
        out.print(f"session {session.id} runs; watch it with: dspex watch {session.id}")
