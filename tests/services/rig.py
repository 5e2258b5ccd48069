"""What the tests of services share: what stands around workers."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio

from dspex_bus import Message, NatsBus, Stored, subjects
from dspex_bus.claim import Claims
from dspex_bus.errors import Unavailable
from dspex_bus.streams import DEAD_LETTERS, EVENTS, OBJECTS, TASKS, buckets, streams
from dspex_bus.wire import StepOutcome, Task, WorkerPresence, decode, decode_outcome, encode
from dspex_services.handlers import Handlers
from dspex_services.worker import Worker, WorkerConfig

PATIENCE_S = 10.0
PARTITION = 3
LARGEST_BYTES = 1_500_000


class Rig:
    """Sends tasks as a router would, and sees what comes of them."""

    def __init__(self, url: str, bus: NatsBus, pool: str) -> None:
        self.url = url
        self.bus = bus
        self.pool = pool
        self.claims = Claims(bus)
        self.outcomes: dict[str, StepOutcome] = {}
        self.presences: list[WorkerPresence] = []
        self._changed = anyio.Event()
        self._sessions = itertools.count(1)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        await self.bus.prepare(streams(), buckets(largest=LARGEST_BYTES))
        subscriptions = [
            await self.bus.subscribe(f"{subjects.EVENT}.*.*.step.>", self._on_event),
            await self.bus.subscribe(f"{subjects.ROOT}.presence.{self.pool}.*", self._on_presence),
        ]
        try:
            yield
        finally:
            for subscription in subscriptions:
                await subscription.close()

    async def _on_event(self, message: Message) -> None:
        data = await self.claims.unpack(message.subject, message.data, message.headers)
        outcome = decode_outcome(data, subject=message.subject)
        self.outcomes[message.subject.replace(subjects.EVENT, subjects.JOURNAL)] = outcome
        self.changed()

    async def _on_presence(self, message: Message) -> None:
        self.presences.append(decode(WorkerPresence, message.data, subject=message.subject))
        self.changed()

    def changed(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def until(self, condition: Any, within_s: float = PATIENCE_S) -> None:
        """Until what has been seen satisfies the condition."""
        with anyio.fail_after(within_s):
            while not condition():
                await self._changed.wait()

    async def seen(self, condition: Any, within_s: float = PATIENCE_S) -> None:
        """Until what workers say of themselves satisfies the condition: they are asked, so that nobody waits for the
        next second."""
        with anyio.fail_after(within_s):
            while not condition():
                await self.bus.publish(subjects.ROLL_CALL)
                with anyio.move_on_after(0.05):
                    await self._changed.wait()

    @asynccontextmanager
    async def worker(self, handlers: Handlers, **config: Any) -> AsyncIterator[Worker]:
        """A worker with a connection of its own, drained at the end."""
        told = WorkerConfig(pool=self.pool, **config)
        async with NatsBus(self.url, name=told.name) as bus, anyio.create_task_group() as group:
            worker = Worker(bus, handlers, told)
            await group.start(worker.run)
            yield worker
            group.cancel_scope.cancel()

    def task(self, handler: str, inputs: dict[str, Any] | None = None, **fields: Any) -> Task:
        values: dict[str, Any] = {
            "session": f"s{next(self._sessions)}-{self.pool}",
            "node": "0",
            "attempt": 1,
            "partition": PARTITION,
            "timeout_ms": 10_000,
            "deadline_ms": now_ms() + 60_000,
        }
        return Task(handler=handler, inputs=inputs or {}, **{**values, **fields})

    def subject(self, task: Task) -> str:
        return subjects.task(self.pool, "normal", task.session, task.node, task.attempt)

    def slot(self, task: Task) -> str:
        return subjects.outcome(task.partition, task.session, self.pool, task.node, task.attempt)

    async def send(self, task: Task, headers: dict[str, str] | None = None) -> Stored:
        return await self.claims.store_once(self.subject(task), encode(task), headers)

    async def outcome(self, task: Task, within_s: float = PATIENCE_S) -> Any:
        slot = self.slot(task)
        await self.until(lambda: slot in self.outcomes, within_s)
        return self.outcomes[slot]

    async def run(self, handler: str, inputs: dict[str, Any] | None = None, **fields: Any) -> Any:
        """Send a task and wait for its outcome."""
        task = self.task(handler, inputs, **fields)
        await self.send(task)
        return await self.outcome(task)

    async def counts(self) -> dict[str, int]:
        return await self.bus.consumer_info(TASKS, subjects.durable(self.pool))

    async def counted(self, tasks: int) -> dict[str, int]:
        """:meth:`counts` with so many tasks: the server counts one a moment after it has said that it is stored."""
        with anyio.fail_after(PATIENCE_S):
            while True:
                counts = await self.counts()
                if counts["pending"] + counts["ack_pending"] == tasks:
                    return counts
                await anyio.sleep(0.01)

    async def queue_empty(self, within_s: float = PATIENCE_S) -> None:
        """Until every task has been acknowledged."""
        with anyio.fail_after(within_s):
            while True:
                counts = await self.counts()
                if not counts["pending"] and not counts["ack_pending"]:
                    return
                await anyio.sleep(0.01)

    async def dead(self, task: Task) -> Any:
        return await self.bus.last(DEAD_LETTERS, subjects.dead(self.pool, task.session, task.node, task.attempt))

    async def recorded(self, task: Task, within_s: float = PATIENCE_S) -> Any:
        """The outcome as the journal has it, also where the server was away when it was stored."""
        with anyio.fail_after(within_s):
            while True:
                with suppress(Unavailable):
                    if message := await self.stored(task):
                        return decode_outcome(message.data, subject=message.subject)
                await anyio.sleep(0.05)

    async def objects(self, task: Task) -> list[str]:
        """What is kept of the task's session, by kind."""
        names = [info.name for info in await self.bus.objects(OBJECTS).contents()]
        return sorted(name.split(".")[1] for name in names if name.startswith(f"{task.session}."))

    async def stored(self, task: Task) -> Any:
        return await self.bus.last(EVENTS, self.slot(task))


def now_ms() -> int:
    return int(time.time() * 1000)
