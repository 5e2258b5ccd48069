"""Random pipelines as a client sees them: submitted, signalled, paused, cancelled, and waited for."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

import dspex
from dspex_bus.wire import Priority

from .clients import LONGEST_S, RESULT_S, Client, any_lives, persistently
from .handlers import executions
from .history import Observed, Violation, check
from .journal import read_journal
from .plans import AT_ONCE, CHILDREN, INPUT, LIMIT, SIGNAL, Plans

_AT_ONCE = 48
_QUIET_S = 90.0
_READ_S = 60.0
_CARRYING = 0.03
TICKING, TICK_S = "ticking", 1.0


class Runs:
    """``ends`` counts how runs ended. ``folder`` is where workers leave what they executed.
    ``deadly``: steps may kill their worker."""

    def __init__(self, connected: dspex.Client, seed: int, folder: Path, *, deadly: bool = True) -> None:
        self.observed = Observed()
        self.ends: Counter[str] = Counter()
        self._lost: list[Violation] = []
        self._connected = connected
        self._client = Client(connected, self.observed)
        self._seed = seed
        self._folder = folder
        self._deadly = deadly

    async def go(self, sessions: int) -> None:
        """Until each has ended."""
        plans = Plans(random.Random(f"{self._seed} children"), deadly=False)
        for name in CHILDREN:
            await self._client.put(plans.child(name))
        await self._client.limit(LIMIT, AT_ONCE)
        await self._client.schedule(TICKING, TICK_S, plans.child(TICKING))
        limiter = anyio.CapacityLimiter(_AT_ONCE)

        async def one(number: int) -> None:
            async with limiter:
                await self._session(number)

        async with anyio.create_task_group() as group:
            for number in range(sessions):
                group.start_soon(one, number)
        await self._client.end_schedule(TICKING)

    async def wrong(self) -> list[Violation]:
        """What is wrong with the whole history, once no session is live any more. Whoever did harm has stopped; what it
        did may still be mended."""
        with anyio.move_on_after(_QUIET_S):
            while await any_lives(self._connected):
                await anyio.sleep(0.1)
        self.observed.executions = executions(self._folder / "executions")
        journal = await persistently(lambda: read_journal(self._connected.bus), try_s=_READ_S)
        return self._lost + check(journal, self.observed)

    async def _session(self, number: int) -> None:
        chance = random.Random(f"{self._seed} session {number}")
        plans = Plans(chance, deadly=self._deadly)
        plan, input = plans.pipeline(), {**INPUT, "flag": chance.random() < 0.5}
        if chance.random() < _CARRYING:
            plan, input = plans.carrying()
        timeout_s = 2.5 if chance.random() < 0.05 else LONGEST_S
        priority: Priority = chance.choice(("low", "normal", "normal", "high"))
        session = await self._client.submit(plan, input, id=f"s{number}", timeout_s=timeout_s, priority=priority)
        async with anyio.create_task_group() as group:
            for told in self._told(session, chance):
                group.start_soon(told)
            try:
                self.ends[(await self._client.result(session)).status] += 1
            except TimeoutError:
                self._lost.append(Violation("lost", session.id, f"nobody was told its result in {RESULT_S:g} s"))
            group.cancel_scope.cancel()

    def _told(self, session: dspex.Session, chance: random.Random) -> list[Callable[[], Awaitable[None]]]:
        """What a client does to the session while it runs."""
        told: list[Callable[[], Awaitable[None]]] = []
        delays = [chance.uniform(0, 1.5) for _ in range(4)]

        async def signals() -> None:
            for id in range(4):
                await anyio.sleep(delays[id] / 2)
                await self._client.signal(session, SIGNAL, str(id), {"said": id})

        async def pauses() -> None:
            await anyio.sleep(delays[1])
            await self._client.pause(session)
            await anyio.sleep(delays[2] / 2)
            await self._client.resume(session)

        async def cancels() -> None:
            await anyio.sleep(delays[3])
            with anyio.CancelScope(shield=True):
                await self._client.cancel(session)

        for does, likely in ((signals, 0.7), (pauses, 0.15), (cancels, 0.2)):
            if chance.random() < likely:
                told.append(does)
        return told
