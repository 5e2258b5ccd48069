"""A new session from an old one: what succeeded is kept, and signals that nobody took; the rest runs again."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import takewhile
from typing import Any

from dspex_bus.errors import Conflict, InvalidRequest, NotFound
from dspex_bus.wire import (
    ForkRequest,
    JournalEvent,
    Node,
    Origin,
    Rounds,
    SessionAccepted,
    SignalReceived,
    SignalRequest,
    StepSucceeded,
    Submitted,
    find,
    is_before,
    members,
)

from ..core import Session, decide, keeping
from .controlling import Controls
from .journals import Journals
from .snapshots import Snapshot
from .submitting import Submitting

Kept = tuple[dict[str, dict[str, Any]], dict[str, Rounds]]
"""What of a session another need not do again: outputs, and rounds of loops."""


class Forking:
    def __init__(self, journals: Journals, submitting: Submitting, controls: Controls) -> None:
        self._journals = journals
        self._submitting = submitting
        self._controls = controls

    async def retry(self, request: ForkRequest) -> Submitted:
        """Conflict ``session_not_failed`` unless the session ended without success."""
        if request.node is not None:
            raise InvalidRequest("a retry goes on from what failed; to choose a step, use session.fork")
        state, kept = await self._folded(request.session, until=None)
        if state.ended is None or state.ended.status == "succeeded":
            how = "has not ended" if state.ended is None else "has succeeded"
            raise Conflict(
                f"session {request.session} {how}: there is nothing to retry; session.fork runs it again from a step",
                code="session_not_failed",
            )
        failed = state.ended.error.details.get("node", "") if state.ended.error else ""
        return await self._submit(request, state, Origin(session=state.id, node=str(failed)), kept)

    async def fork(self, request: ForkRequest) -> Submitted:
        """NotFound ``unknown_step`` where the session has not come to the step."""
        if request.node is None:
            raise InvalidRequest("a fork needs 'node', the step to go on from", code="missing_field")
        node = await self._place(request.session, request.node)
        state, kept = await self._folded(request.session, until=node)
        return await self._submit(request, state, Origin(session=state.id, node=node), kept)

    async def _place(self, session: str, node: str) -> str:
        """Of a step that is called by its name, its place. What runs more than once has many, and is left as it is."""
        begun = await self._journals.accepted(session)
        if begun is None or find(begun[0].plan, node) is not None:
            return node
        places = [found.id for found in _below(begun[0].plan.root) if found.name == node]
        if len(places) > 1:
            raise InvalidRequest(f"several steps are called {node!r}: say which by its place, {' or '.join(places)}")
        return places[0] if places else node

    async def _folded(self, session: str, *, until: str | None) -> tuple[Session, Kept]:
        """The session as it was when the step ``until`` started, or as it is, and what it need not do again by then."""
        while True:
            base = await self._journals.snapshots.oldest(session)
            found = await self._read(session, until, base)
            if not await self._journals.snapshots.have_gone(session, 0 if base is None else base.event.through):
                return found

    async def _read(self, session: str, until: str | None, base: Snapshot | None) -> tuple[Session, Kept]:
        state = None if base is None else await self._journals.snapshots.restored(base)
        kept, rounds = ({}, {}) if state is None else _earlier(state.accepted, *keeping(state), until)
        if state is not None and until in state.runs:
            raise _unreachable(session, until)
        async for entry in self._journals.entries(session, after=0 if base is None else base.event.through):
            event = entry.recorded.event
            if isinstance(event, SessionAccepted):
                kept, rounds = _earlier(event, event.kept, event.rounds, until)
            elif state is None:
                continue
            together = _outputs(entry.recorded.node, event)
            for node in takewhile(lambda node: node != until, together):
                kept[node] = together[node]
            state, _ = decide(state, entry.recorded)
            if until is not None and (until in state.runs or until in together or until in state.accepted.kept):
                return state, (kept, rounds)
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
        return state, (kept, rounds)

    async def _submit(self, request: ForkRequest, state: Session, origin: Origin, kept: Kept) -> Submitted:
        old = state.accepted
        allowed_ms = int(request.timeout_s * 1000) if request.timeout_s else old.deadline_ms - state.accepted_ms
        accepted = SessionAccepted(
            session=request.id or secrets.token_hex(12),
            plan=old.plan,
            input={**old.input, **request.input},
            deadline_ms=self._journals.bus.clock.now_ms() + allowed_ms,
            origin=origin,
            kept=kept[0],
            rounds=kept[1],
            budget=old.budget,
            tenant=old.tenant,
            stream=old.stream,
            thread=old.thread,
            priority=old.priority,
        )
        submitted, _ = await self._submitting.store(accepted)
        await self._pass_on(state.signals, submitted.session)
        return submitted

    async def _pass_on(self, signals: Iterable[SignalReceived], session: str) -> None:
        """Whoever sent them has done what there was to do. A malformed one has no name."""
        for signal in signals:
            if signal.name:
                request = SignalRequest(session=session, name=signal.name, id=signal.id, payload=signal.payload)
                with suppress(Conflict):  # it has ended without
                    await self._controls.signal(request)


def _below(node: Node) -> Iterator[Node]:
    for member in members(node):
        yield member
        yield from _below(member)


def _earlier(
    accepted: SessionAccepted, kept: dict[str, dict[str, Any]], rounds: dict[str, Rounds], until: str | None
) -> Kept:
    """Less what the session itself has from another and comes after ``until``: that is to run again."""
    if until is None:
        return dict(kept), rounds
    plan, theirs = accepted.plan, accepted.kept
    return (
        {node: kept[node] for node in kept if node not in theirs or is_before(plan, node, until)},
        {loop: rounds[loop] for loop in rounds if is_before(plan, loop, until) or until.startswith(f"{loop}-")},
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
