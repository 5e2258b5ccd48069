"""Clients that do not give up: what they ask is asked again until it is answered, and what they saw is kept."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

import dspex
from dspex_bus.errors import DeadlineExceeded
from dspex_bus.streams import EVENTS, LIVE
from dspex_bus.wire import LimitDefinition, PipelineDefinition, Priority, RunResult, ScheduleDefinition

from .history import Acknowledged, Observed

T = TypeVar("T")
TRY_S = 2.0
AGAIN_S = 0.05
PATIENCE_S = 90.0
LONGEST_S = 120.0
RESULT_S = LONGEST_S + 30.0
"""Whatever happens, a run has ended by its deadline, and what that takes."""
SETTLED_S = 2.0


async def persistently(ask: Callable[[], Awaitable[T]], *, try_s: float = TRY_S, patience_s: float = PATIENCE_S) -> T:
    """The answer, through routers that die with the question. Fails after a minute and a half."""
    with anyio.fail_after(patience_s):
        while True:
            with anyio.move_on_after(try_s):
                try:
                    return await ask()
                except dspex.DspexError as error:
                    if not error.retryable and not isinstance(error, DeadlineExceeded):
                        raise
            await anyio.sleep(AGAIN_S)


async def any_lives(client: dspex.Client) -> bool:
    """Whether any session does; one that has ended counts for as long as it is in the routers' index, until all that
    follows from its end is done."""
    if await persistently(client.bus.key_value(LIVE).keys):
        return True
    return bool((await persistently(lambda: client.sessions(ended=False))).sessions)


class Client:
    """What a client asks for, noting in ``observed`` what it was answered."""

    def __init__(self, client: dspex.Client, observed: Observed) -> None:
        self.connected = client
        self._observed = observed

    async def put(self, definition: PipelineDefinition) -> None:
        await persistently(lambda: self.connected.put_pipeline(definition))

    async def limit(self, name: str, at_once: int) -> None:
        await persistently(lambda: self.connected.put_limit(LimitDefinition(name=name, concurrency=at_once)))
        self._observed.limits[name] = at_once

    async def schedule(self, name: str, every_s: float, definition: PipelineDefinition) -> None:
        """Every tick counts, whoever was there for it."""
        ticking = ScheduleDefinition(name=name, every_s=every_s, definition=definition, missed="all")
        await persistently(lambda: self.connected.put_schedule(ticking))
        self._observed.schedules[name] = (every_s, 0)

    async def end_schedule(self, name: str) -> None:
        """Once nothing of it is under way."""
        await persistently(lambda: self.connected.pause_schedule(name))
        state, before = None, None
        while state is None or state != before:
            await anyio.sleep(SETTLED_S)
            before, state = state, (await persistently(lambda: self.connected.get_schedule(name))).state
        self._observed.schedules[name] = (self._observed.schedules[name][0], state.started)

    async def submit(
        self,
        pipeline: PipelineDefinition | str,
        input: dict[str, Any] | None = None,
        *,
        id: str,
        timeout_s: float = LONGEST_S,
        priority: Priority | None = None,
    ) -> dspex.Session:
        """The same id however often it is asked: one session."""
        session = await persistently(
            lambda: self.connected.submit(pipeline, input or {}, session=id, timeout_s=timeout_s, priority=priority)
        )
        self._observed.accepted.add(session.id)
        return session

    async def result(self, session: dspex.Session) -> RunResult:
        result = await persistently(lambda: session.result(timeout_s=1), patience_s=RESULT_S)
        self._observed.results.append(result)
        return result

    async def cancel(self, session: dspex.Session) -> None:
        """Until it is acknowledged, or the session has ended by itself."""
        if not await _unless_over(session.cancel):
            return
        at_ms = time.time_ns() // 1_000_000
        info = await persistently(lambda: self.connected.bus.stream_info(EVENTS))
        self._observed.cancelled[session.id] = Acknowledged(at_ms, info["last_sequence"])

    async def pause(self, session: dspex.Session) -> None:
        await _unless_over(session.pause)

    async def resume(self, session: dspex.Session) -> None:
        await _unless_over(session.resume)

    async def signal(self, session: dspex.Session, name: str, id: str, payload: dict[str, Any]) -> None:
        await _unless_over(lambda: session.signal(name, payload, id=id))


async def _unless_over(ask: Callable[[], Awaitable[object]]) -> bool:
    """Whether it was answered; False where the session had ended."""
    try:
        await persistently(ask)
    except dspex.DspexError as error:
        if error.code != "session_ended":
            raise
        return False
    return True
