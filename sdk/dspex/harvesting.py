"""Data sets from production: what sessions were asked and answered, with what people said of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dspex_bus.wire import EndStatus, SessionListRequest, SessionSummary, SignalReceived
from dspex_bus.wire import SessionList as Listed

if TYPE_CHECKING:
    from .client import Client

SESSION = "dspy_session"
"""The field with the session an example is from; metrics and DSPy look past fields with that beginning."""

SCORE = "score"
_MOST = 1000


@dataclass(frozen=True, kw_only=True)
class Harvest:
    """Which sessions, and what of them. ``since_ms`` and ``until_ms`` bound when they were accepted. With ``feedback``,
    only sessions that got a signal of that name: its payload's fields are right answers, over the session's own
    outputs; its ``score``, if it has one, must be at least ``min_score``. ``inputs`` and ``outputs`` rename or choose
    fields; without them all are kept."""

    pipeline: str | None = None
    statuses: tuple[EndStatus, ...] = ("succeeded",)
    since_ms: int = 0
    until_ms: int | None = None
    feedback: str | None = None
    min_score: float | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    limit: int = _MOST
    with_session: bool = field(default=False)


async def harvest(client: Client, wanted: Harvest) -> AsyncIterator[dict[str, Any]]:
    """An example for each session, the newest first; no two alike."""
    seen: set[str] = set()
    made = 0
    for session in await _sessions(client, wanted):
        row = await _row(client, session.session, wanted)
        if row is None:
            continue
        name = repr(sorted((key, value) for key, value in row.items() if key != SESSION))
        if name in seen:
            continue
        seen.add(name)
        yield row
        made += 1
        if made >= wanted.limit:
            return


async def _sessions(client: Client, wanted: Harvest) -> list[SessionSummary]:
    listed = await client.ask("session", "list", SessionListRequest(ended=True, limit=_MOST), Listed)
    return [
        one
        for one in listed.sessions
        if one.status in wanted.statuses
        and wanted.pipeline in (None, one.pipeline)
        and one.accepted_ms >= wanted.since_ms
        and (wanted.until_ms is None or one.accepted_ms < wanted.until_ms)
    ]


async def _row(client: Client, id: str, wanted: Harvest) -> dict[str, Any] | None:
    handle = client.session(id)
    view = await handle.view()
    said: dict[str, Any] = {}
    if wanted.feedback is not None:
        found = [
            stored.event.payload
            async for stored in handle.events()
            if isinstance(stored.event, SignalReceived) and stored.event.name == wanted.feedback
        ]
        if not found or not _good(found[-1], wanted.min_score):
            return None
        said = {name: value for name, value in found[-1].items() if name != SCORE}
    asked, answered = _chosen(view.input, wanted.inputs), _chosen({**(view.output or {}), **said}, wanted.outputs)
    if wanted.inputs and set(asked) != set(wanted.inputs):
        return None
    row = {**answered, **asked}
    return {**row, SESSION: id} if wanted.with_session else row


def _good(payload: dict[str, Any], least: float | None) -> bool:
    if least is None:
        return True
    score = payload.get(SCORE)
    return isinstance(score, int | float) and score >= least


def _chosen(values: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values} if names else dict(values)
