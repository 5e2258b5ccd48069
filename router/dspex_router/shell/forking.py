"""A new session from an old one: what succeeded is kept, and signals that nobody took; the rest runs again."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress

from dspex_bus.errors import Conflict, InvalidRequest
from dspex_bus.wire import (
    ForkRequest,
    Node,
    Origin,
    SessionAccepted,
    SignalReceived,
    SignalRequest,
    Submitted,
    find,
    members,
)

from ..core import Session
from .controlling import Controls
from .earlier import Done, Earlier
from .journals import Journals
from .submitting import Submitting


class Forking:
    def __init__(self, journals: Journals, submitting: Submitting, controls: Controls) -> None:
        self._journals = journals
        self._earlier = Earlier(journals)
        self._submitting = submitting
        self._controls = controls

    async def retry(self, request: ForkRequest) -> Submitted:
        """Conflict ``session_not_failed`` unless the session ended without success."""
        if request.node is not None:
            raise InvalidRequest("a retry goes on from what failed; to choose a step, use session.fork")
        state, done = await self._earlier.of(request.session)
        if state.ended is None or state.ended.status == "succeeded":
            how = "has not ended" if state.ended is None else "has succeeded"
            raise Conflict(
                f"session {request.session} {how}: there is nothing to retry; session.fork runs it again from a step",
                code="session_not_failed",
            )
        failed = state.ended.error.details.get("node", "") if state.ended.error else ""
        return await self._submit(request, state, Origin(session=state.id, node=str(failed)), done)

    async def fork(self, request: ForkRequest) -> Submitted:
        """NotFound ``unknown_step`` where the session has not come to the step."""
        if request.node is None:
            raise InvalidRequest("a fork needs 'node', the step to go on from", code="missing_field")
        node = await self._place(request.session, request.node)
        state, done = await self._earlier.of(request.session, until=node)
        return await self._submit(request, state, Origin(session=state.id, node=node), done)

    async def _place(self, session: str, node: str) -> str:
        """Of a step that is called by its name, its place. What runs more than once has many, and is left as it is."""
        begun = await self._journals.accepted(session)
        if begun is None or find(begun[0].plan, node) is not None:
            return node
        places = [found.id for found in _below(begun[0].plan.root) if found.name == node]
        if len(places) > 1:
            raise InvalidRequest(f"several steps are called {node!r}: say which by its place, {' or '.join(places)}")
        return places[0] if places else node

    async def _submit(self, request: ForkRequest, state: Session, origin: Origin, done: Done) -> Submitted:
        old = state.accepted
        allowed_ms = int(request.timeout_s * 1000) if request.timeout_s else old.deadline_ms - state.accepted_ms
        accepted = SessionAccepted(
            session=request.id or secrets.token_hex(12),
            plan=old.plan,
            input={**old.input, **request.input},
            deadline_ms=self._journals.bus.clock.now_ms() + allowed_ms,
            origin=origin,
            kept=done.kept,
            rounds=done.rounds,
            children=done.children,
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
