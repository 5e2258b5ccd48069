"""Sessions that wait for most of their lives: parked and woken again and again, by signals, timers and clients."""

from __future__ import annotations

import random

import anyio

import dspex
from dspex_bus.wire import RetryPolicy, StepDefinition

from .clients import PATIENCE_S
from .history import Violation
from .parts import POOL
from .runs import Runs

_LONGEST_S = 2.5
_SLEEP_S = 4.0


def _act() -> StepDefinition:
    return dspex.native("chaos.act", pool=POOL, script=["ok"], retry=RetryPolicy(attempts=3, initial_s=0.02))


WAITING = dspex.pipeline(
    [
        dspex.wait("one"),
        _act(),
        dspex.parallel([dspex.wait("two"), dspex.sequence([dspex.sleep(_SLEEP_S), _act()])], save_as="both"),
        dspex.wait("three"),
        _act(),
    ],
    name="waiting",
)
"""No wait has a time of its own: one that nobody wakes stays as it is."""


NAPPING = dspex.pipeline([dspex.sleep(_SLEEP_S), _act(), dspex.sleep(_SLEEP_S)], name="napping")
NESTED = dspex.pipeline(
    [
        dspex.parallel([dspex.subpipeline(NAPPING.name), dspex.sequence([dspex.sleep(1), _act()])], save_as="both"),
        _act(),
    ],
    name="nested",
)
"""Both are parked while the inner one sleeps."""


class Waits(Runs):
    async def go(self, sessions: int) -> None:
        await self._client.put(NAPPING)
        async with anyio.create_task_group() as group:
            for number in range(sessions):
                group.start_soon(self._session, number)

    async def _session(self, number: int) -> None:
        chance = random.Random(f"{self._seed} waits {number}")
        nested = number % 4 == 0
        session = await self._client.submit(NESTED if nested else WAITING, id=f"w{number}", timeout_s=3600)
        for name in ("one", "two", "three"):
            await anyio.sleep(chance.uniform(0.1, _LONGEST_S))
            if chance.random() < 0.2:
                await self._client.pause(session)
                await anyio.sleep(chance.uniform(0.1, _LONGEST_S))
                await self._client.resume(session)
            if not nested:
                await self._client.signal(session, name, "1", {"said": name})
        try:
            if chance.random() < 0.1:
                await self._client.cancel(session)
            self.ends[(await self._client.result(session)).status] += 1
        except TimeoutError:
            self._lost.append(Violation("lost", session.id, f"nobody was told its result in {PATIENCE_S:g} s"))
