"""What of a session another one need not do again, from its journal."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from dspex_bus.errors import DecodeError, NewerJournal, NotFound
from dspex_bus.subjects import ROUTER_POOL
from dspex_bus.wire import (
    JournalEvent,
    PipelineNode,
    Rounds,
    SessionAccepted,
    StepSucceeded,
    find,
    is_before,
)

from ..core import Recorded, Session, child_id, decide, keeping
from ..errors import BrokenJournal
from .journals import Journals
from .snapshots import Snapshot


class Done(Struct):
    """Outputs, rounds of loops, and the sessions that ran the pipelines within which have not succeeded: they go on,
    too."""

    kept: dict[str, dict[str, Any]]
    rounds: dict[str, Rounds]
    children: dict[str, str]


class Earlier:
    def __init__(self, journals: Journals) -> None:
        self._journals = journals

    async def for_child(self, accepted: SessionAccepted) -> SessionAccepted:
        """As it goes on from the child before it that it is made from, where that is there and was asked the same."""
        if accepted.origin is None:
            return accepted
        try:
            state, done = await self.of(accepted.origin.session)
        except (NotFound, DecodeError, NewerJournal, BrokenJournal):
            return replace(accepted, origin=None)
        before = state.accepted
        if (before.plan.digest, before.input) != (accepted.plan.digest, accepted.input):
            return replace(accepted, origin=None)
        return replace(accepted, kept=done.kept, rounds=done.rounds, children=done.children)

    async def of(self, session: str, *, until: str | None = None) -> tuple[Session, Done]:
        """The session as it was when the step ``until`` started, or as it is, and what it need not do again by then."""
        while True:
            base = await self._journals.snapshots.oldest(session)
            found = await self._read(session, until, base)
            if not await self._journals.snapshots.have_gone(session, 0 if base is None else base.event.through):
                return found

    async def _read(self, session: str, until: str | None, base: Snapshot | None) -> tuple[Session, Done]:
        state = None if base is None else await self._journals.snapshots.restored(base)
        done = Done({}, {}, {}) if state is None else _earlier(state.accepted, *keeping(state), until)
        if state is not None and until in state.runs:
            raise _unreachable(session, until)
        async for entry in self._journals.entries(session, after=0 if base is None else base.event.through):
            event = entry.recorded.event
            if isinstance(event, SessionAccepted):
                done = _earlier(event, event.kept, event.rounds, until)
            elif state is None:
                continue
            together = _outputs(entry.recorded.node, event)
            for node in takewhile(lambda node: node != until, together):
                done.kept[node] = together[node]
            state, _ = decide(state, entry.recorded)
            _note_child(state, entry.recorded, done.children)
            if until is not None and (until in state.runs or until in together or until in state.accepted.kept):
                return state, done
        if state is None:
            raise NotFound(f"there is no session {session!r}; it may have been purged", code="unknown_session")
        if until is not None:
            known = ", ".join(f"{place} ({run.node.name})" for place, run in state.runs.items()) or "none"
            before = "" if base is None else ", or that is told of no more"
            raise NotFound(
                f"session {session} has not come to a step {until!r}{before}; it has come to: {known}",
                code="unknown_step",
                details={"node": until},
            )
        return state, done


def _note_child(state: Session, recorded: Recorded, children: dict[str, str]) -> None:
    if recorded.pool != ROUTER_POOL or not isinstance(find(state.accepted.plan, recorded.node), PipelineNode):
        return
    if isinstance(recorded.event, StepSucceeded):
        children.pop(recorded.node, None)
    else:
        children[recorded.node] = child_id(state.id, recorded.node, recorded.attempt)


def _earlier(
    accepted: SessionAccepted, kept: dict[str, dict[str, Any]], rounds: dict[str, Rounds], until: str | None
) -> Done:
    """Less what the session itself has from another and comes after ``until``: that is to run again."""
    if until is None:
        return Done(dict(kept), rounds, dict(accepted.children))
    plan, theirs = accepted.plan, accepted.kept
    return Done(
        {node: kept[node] for node in kept if node not in theirs or is_before(plan, node, until)},
        {loop: rounds[loop] for loop in rounds if is_before(plan, loop, until) or until.startswith(f"{loop}-")},
        {},
    )


def _unreachable(session: str, node: str | None) -> NotFound:
    return NotFound(
        f"what session {session} was before its step {node!r} is told no more: its journal has been compacted since;"
        " fork it from a later step",
        code="unknown_step",
        details={"node": node},
    )


def _outputs(node: str, event: JournalEvent) -> dict[str, dict[str, Any]]:
    """Of the step that succeeded, and of those that travelled with it, in order."""
    if not isinstance(event, StepSucceeded):
        return {}
    return {node: event.outputs, **{followed.node: followed.outputs for followed in event.then}}
