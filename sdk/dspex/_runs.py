"""Runs: durable sessions, started and come back to."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import nullcontext
from typing import Any, Unpack

from dspex_bus import names, subjects
from dspex_bus.errors import Disconnected, InvalidRequest, RunFailed
from dspex_bus.wire import (
    PipelineDefinition,
    RunRequest,
    RunResult,
    SessionList,
    SessionListRequest,
    SessionSummary,
    StoredEvent,
    Submitted,
    error_info,
)

from ._asking import Asking
from ._feed import TokenEvent, telling
from .options import RunOptions
from .sessions import Session

Pipeline = PipelineDefinition | str
"""A definition, or the name of a stored one."""

_MARGIN_S = 5.0
"""How much longer a client waits than it allows the run to take, so that the system's own answer comes first."""


class Runs(Asking):
    """Pipelines run to their end, submitted, or watched."""

    async def run(
        self,
        pipeline: Pipeline,
        input: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = 600.0,
        session: str | None = None,
        durability: str = "stored",
        on_token: Callable[[TokenEvent], object] | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult:
        """Run to the end and answer with the result. Raises RunFailed (its ``code`` says why, ``details`` has the
        session) when the run ended without success. ``durability="none"`` keeps it out of every stream: faster, not
        recoverable. ``budget`` is what its LM calls may use, in place of the pipeline's; ``tenant`` is who it is
        for; ``thread`` names the conversation that steps with ``remember`` go on with. ``on_token`` is called with what
        the steps say of their models' tokens, as it comes."""
        durable = durability != "none"
        if on_token is not None:
            options["stream"] = True
        if session is None and (durable or on_token is not None):
            session = secrets.token_hex(12)
        async with nullcontext() if on_token is None else telling(self.bus, str(session), on_token):
            result = await self._result(pipeline, input, timeout_s, session, durability, options)
        raise_unless_succeeded(result)
        return result

    async def _result(
        self,
        pipeline: Pipeline,
        input: Mapping[str, Any] | None,
        timeout_s: float,
        session: str | None,
        durability: str,
        options: RunOptions,
    ) -> RunResult:
        name, request = _request(pipeline, input, timeout_s, session, durability, options)
        try:
            return await self._ask(subjects.run(name), request, RunResult, timeout_s + _MARGIN_S)
        except Disconnected:
            if durability == "none":
                raise
            # The answer went with the connection, the session did not: the same id again is the same session.
            handle = await self.submit(pipeline, input, timeout_s=timeout_s, session=session, **options)
            return await handle.result(timeout_s=timeout_s + _MARGIN_S)

    async def submit(
        self,
        pipeline: Pipeline,
        input: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        session: str | None = None,
        **options: Unpack[RunOptions],
    ) -> Session:
        """Start a run and come back at once. When this returns, the session is stored and will end, whatever is
        killed. With ``stream`` its steps say the model's tokens: see :meth:`stream`, and :meth:`Session.tokens`."""
        name, request = _request(pipeline, input, timeout_s, session or secrets.token_hex(12), "stored", options)
        submitted = await self._ask_again(subjects.submit(name), request, Submitted)
        return Session(self, submitted.session)

    async def stream(
        self,
        pipeline: Pipeline,
        input: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        session: str | None = None,
        tokens: bool = False,
        **options: Unpack[RunOptions],
    ) -> AsyncIterator[StoredEvent | TokenEvent]:
        """Start a run and yield its events as they are stored, up to and with the end; with ``tokens`` also what its
        steps say of the model's tokens, from the first."""
        handle = self.session(session or secrets.token_hex(12))
        if tokens:
            options["stream"] = True

        async def begin() -> None:
            await self.submit(pipeline, input, timeout_s=timeout_s, session=handle.id, **options)

        async for item in handle.follow(tokens=tokens, begin=begin):
            yield item

    def session(self, id: str) -> Session:
        """A handle on a session started anywhere."""
        return Session(self, names.token(id, "session"))

    async def sessions(self, *, ended: bool = True, limit: int = 50, before: int = 0) -> SessionList:
        """The newest, at most ``limit`` (1,000), fewer only where there are no more; with the answer's ``next`` as
        ``before`` the next older ones. It is 0 at the end."""
        found: list[SessionSummary] = []
        while True:
            request = SessionListRequest(ended=ended, limit=limit - len(found), before=before)
            page = await self.ask("session", "list", request, SessionList)
            found += page.sessions
            before = page.next
            if not before or len(found) >= limit:
                return SessionList(sessions=tuple(found), next=before)


def _request(
    pipeline: Pipeline,
    input: Mapping[str, Any] | None,
    timeout_s: float | None,
    session: str | None,
    durability: str,
    options: RunOptions,
) -> tuple[str, RunRequest]:
    inline = isinstance(pipeline, PipelineDefinition)
    if not isinstance(pipeline, PipelineDefinition | str):
        raise InvalidRequest(
            "a pipeline is what dspex.pipeline or dspex.load_pipeline gives, or the name of a stored one, and no "
            + type(pipeline).__name__
        )
    if not isinstance(input, Mapping | None):
        raise InvalidRequest(f"a run's input is its fields, such as {{'question': '…'}}, and no {type(input).__name__}")
    request = RunRequest(
        input=dict(input or {}),
        definition=pipeline if isinstance(pipeline, PipelineDefinition) else None,
        session=session,
        timeout_s=timeout_s,
        durability="none" if durability == "none" else "stored",
        **options,
    )
    return (subjects.INLINE if inline else str(pipeline)), request


def raise_unless_succeeded(result: RunResult) -> None:
    """Raises RunFailed saying why."""
    if result.status == "succeeded":
        return
    error = result.error or error_info(RunFailed(f"the run ended {result.status}"))
    raise RunFailed(
        error.message, code=error.code, details={"session": result.session, "status": result.status, **error.details}
    )
