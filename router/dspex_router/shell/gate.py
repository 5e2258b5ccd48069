"""The gate before the pools: a step under a limit is sent once it has a permit for each of its limits."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import anyio

from dspex_bus import Bus, Message, subjects
from dspex_bus.errors import Conflict, DspexError

from ..permits import LEASE_MS, turn
from .limits import Limits
from .waiting import Step, Waiting

log = logging.getLogger(__name__)

_AGAIN_MS = 500
_RENEW_MS = LEASE_MS // 3


class Gate:
    """``alive`` says whether a session is still ours. Steps wait in this router's memory, the urgent first; permits are
    in the limits' books. After a take-over steps come again, and find the permits they have; what holds one and
    ``is_over``, as nobody but us can tell, has lost the router that was to give it back."""

    def __init__(
        self, bus: Bus, limits: Limits, alive: Callable[[str], bool], is_over: Callable[[str], Awaitable[bool]]
    ) -> None:
        self._bus = bus
        self._clock = bus.clock
        self._limits = limits
        self._alive = alive
        self._is_over = is_over
        self._steps: dict[str, Step] = {}
        self._waiting: dict[str, Waiting] = defaultdict(partial(Waiting, alive))
        self._held: dict[str, set[str]] = defaultdict(set)
        self._released: dict[str, set[str]] = defaultdict(set)
        self._due_ms: dict[str, float] = {}
        self._woken = anyio.Event()

    async def send(
        self, session: str, holder: str, names: tuple[str, ...], rank: int, send: Callable[[], Awaitable[None]]
    ) -> None:
        """Call ``send`` when the step has its permits, or again where it was sent before."""
        step = self._steps.get(holder)
        if step is not None:
            if not step.lacks:
                await send()
            return
        self._steps[holder] = step = Step(holder, session, rank, names, list(names), send)
        self._wait(step)

    def done(self, session: str, node: str, attempt: int) -> None:
        """The attempt has its outcome: its permits are free, and it waits no more."""
        step = self._steps.pop(holder_of(session, node, attempt), None) if self._steps else None
        if step is not None:
            self._forget(step)
            self._give_back(step)

    def look_again(self) -> None:
        """Limits have changed: who waits may not have to."""
        for name in [name for name, queue in self._waiting.items() if queue]:
            self._due(name, 0)

    async def look_at_books(self) -> None:
        """For permits that nobody gives back."""
        for name in await self._limits.books():
            self._due(name, 0)

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        self._limits.on_change(self.look_again)
        async with self._bus.subscribed(subjects.PERMITS, self._on_freed):
            yield

    async def run(self) -> None:
        while True:
            self._woken = anyio.Event()
            now = self._clock.steady_ms()
            for name in [name for name, due in self._due_ms.items() if due <= now]:
                del self._due_ms[name]
                await self._turn(name)
            next_ms = min(self._due_ms.values(), default=math.inf) - self._clock.steady_ms()
            with anyio.move_on_after(max(0.0, next_ms) / 1000):
                await self._woken.wait()

    def _wait(self, step: Step) -> None:
        self._waiting[step.lacks[0]].add(step)
        self._due(step.lacks[0], 0)

    def _give_back(self, step: Step) -> None:
        """All, whether we know that it holds them or not: it may have got them from the router before us."""
        for name in step.names:
            self._released[name].add(step.holder)
            self._due(name, 0)

    def _due(self, name: str, in_ms: int) -> None:
        at_ms = self._clock.steady_ms() + in_ms
        if at_ms < self._due_ms.get(name, at_ms + 1):
            self._due_ms[name] = at_ms
            self._woken.set()

    async def _on_freed(self, message: Message) -> None:
        name = message.subject.removeprefix(subjects.PERMITS[:-1])
        if self._waiting.get(name):
            self._due(name, 0)

    async def _turn(self, name: str) -> None:
        released = self._released.pop(name, set())
        try:
            await self._turned(name, released)
        except DspexError as error:
            self._released[name] |= released
            self._due(name, 0 if isinstance(error, Conflict) else _AGAIN_MS)
            if not isinstance(error, Conflict):
                log.warning("permits of %s are looked at again in %d ms: %s", name, _AGAIN_MS, error)

    async def _turned(self, name: str, released: set[str]) -> None:
        for step in [self._steps[holder] for holder in self._held[name]]:
            if not self._alive(step.session):
                self._leave(step)
        queue = self._waiting[name]
        book, revision = await self._limits.book(name)
        released |= {holder for holder in book.holders if holder not in self._steps and await self._is_over(holder)}
        now_ms = self._clock.now_ms()
        turned = turn(
            book,
            self._limits.find(name),
            ours=self._held[name],
            released=released,
            wanted=queue,
            now_ms=now_ms,
        )
        await self._limits.replace(name, turned.book, revision)
        if released:
            await self._bus.publish(f"{subjects.PERMITS[:-1]}{name}")
        for step in queue.lost():
            self._leave(step)
        for step in filter(None, map(queue.get, turned.granted)):
            await self._granted(name, step)
        if turned.again_ms is not None:
            self._due(name, turned.again_ms - now_ms)
        if self._held[name]:
            self._due(name, _RENEW_MS)

    def _leave(self, step: Step) -> None:
        """To the new owner of its session, with its permits; where there is none they run out."""
        if self._steps.get(step.holder) is step:
            del self._steps[step.holder]
        self._forget(step)

    def _forget(self, step: Step) -> None:
        """It waits no more, and what it holds is not ours to renew."""
        if step.lacks:
            self._waiting[step.lacks[0]].remove(step)
        for name in step.names:
            self._held[name].discard(step.holder)

    async def _granted(self, name: str, step: Step) -> None:
        self._waiting[name].remove(step)
        self._held[name].add(step.holder)
        step.lacks.remove(name)
        if step.lacks:
            self._wait(step)
        else:
            await step.send()


def holder_of(session: str, node: str, attempt: int) -> str:
    return f"{session}.{node}.{attempt}"
