"""The worker: takes its pool's tasks, runs them, and says what came of them."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskStatus

from dspex_bus import Bus, Message, Subscription, subjects
from dspex_bus.errors import NotFound, Unavailable
from dspex_bus.wire import Progress, StepFailed, StepOutcome, Task, Unwanted, decode, encode, error_info

from ..cache import Cache
from ..handlers import Handler, Handlers, Step
from .attempt import Abandoned, Attempt
from .cache import StepCache
from .config import WorkerConfig
from .direct import DirectCalls
from .presence import Presence
from .stored import StoredTasks

logger = logging.getLogger("dspex.worker")

_QUIET_S = 0.05
"""Attempts shorter than this cost no progress message."""

_CANCELLED_KEPT = 10_000


class Worker:
    """One member of a pool.

        await group.start(Worker(bus, handlers, WorkerConfig(pool="native")).run)

    ``run`` reports readiness once a message has come through to it, and runs until cancelled; then it finishes what
    it has begun, within ``drain_s`` seconds, and leaves.
    """

    def __init__(self, bus: Bus, handlers: Handlers, config: WorkerConfig) -> None:
        self.bus = bus
        self.handlers = handlers
        self.config = config
        self.busy = 0
        self.done = 0
        self.cache = Cache(bus)
        self._kept = StepCache(self.cache, config.name)
        self._running: dict[str, set[Attempt]] = {}
        self._cancelled: dict[str | tuple[str, str, int], None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(2 * config.slots, thread_name_prefix="handler")
        self._stored = StoredTasks(self)
        self._direct = DirectCalls(self)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        presence = Presence(self)
        async with AsyncExitStack() as stack:
            stack.callback(self._threads.shutdown, wait=False, cancel_futures=True)
            subscription = await self.bus.subscribe(subjects.CANCELLED, self._on_cancelled)
            stack.push_async_callback(_closed, subscription)
            await stack.enter_async_context(self.cache)
            try:
                async with anyio.create_task_group() as group:
                    await self._direct.start()
                    await self._stored.start()
                    group.start_soon(self._stored.keep_alive)
                    await self._probe()
                    await group.start(presence.run)
                    task_status.started()
                    await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True), anyio.move_on_after(self.config.drain_s + 5):
                    await self._drain(presence)

    async def _probe(self) -> None:
        """A message to ourselves: ready means that one has come through."""
        subject = f"{subjects.ROOT}.probe.{self.config.name}"

        async def answer(message: Message) -> None:
            await self.bus.publish(message.reply, b"")

        subscription = await self.bus.subscribe(subject, answer)
        await self.bus.request(subject, timeout_s=10)
        await subscription.close()

    async def _drain(self, presence: Presence) -> None:
        await presence.leave("draining")
        await self._direct.stop()
        await self._stored.stop()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self.config.drain_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=2)
        await self._stored.close()
        await self.handlers.close()
        await presence.leave("leaving")

    # --- what both ways in share ---

    def spawn(self, work: Any) -> None:
        """Run a coroutine as a task that the worker owns and awaits when it drains."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("an attempt's bookkeeping failed", exc_info=error)

    def is_cancelled(self, session: str, node: str, attempt: int) -> bool:
        return session in self._cancelled or (session, node, attempt) in self._cancelled

    async def execute(self, task: Task) -> tuple[StepOutcome | None, asyncio.Future[Any] | None]:
        """The outcome, None where the session was cancelled meanwhile; and the handler's thread where it still runs."""
        try:
            handler = self.handlers.get(task.handler)
        except NotFound as error:
            return StepFailed(error=error_info(error), worker=self.config.name), None
        attempt = Attempt(task, handler, self._step(task), self.config.name)
        run = partial(self._watched, attempt, handler)
        outcome = await (self._kept.outcome(task, run) if task.cache_ms else run())
        thread = attempt.thread
        return outcome, thread if thread is not None and not thread.done() else None

    async def _watched(self, attempt: Attempt, handler: Handler) -> StepOutcome | None:
        task = attempt.task
        self._running.setdefault(task.session, set()).add(attempt)
        said = asyncio.get_running_loop().call_later(_QUIET_S, self._say_soon, task, _now_ms())
        self.busy += 1
        try:
            return await attempt.run(self._threads)
        except Abandoned:
            return None
        finally:
            said.cancel()
            self.busy -= 1
            self.done += 1
            attempts = self._running[task.session]
            attempts.discard(attempt)
            if not attempts:
                del self._running[task.session]

    def _step(self, task: Task) -> Step:
        started = _now_ms()

        async def say(note: str, fraction: float | None) -> None:
            await self._say(task, started, note, fraction)

        return Step(
            session=task.session,
            node=task.node,
            attempt=task.attempt,
            worker=self.config.name,
            inputs=task.inputs,
            options=task.options,
            bus=self.bus,
            clock=time.monotonic,
            ends_at=time.monotonic() + min(task.timeout_ms, task.deadline_ms - started) / 1000,
            say=say,
            cache=self.cache,
        )

    def _say_soon(self, task: Task, started: int) -> None:
        self.spawn(self._say(task, started, "", None))

    async def _say(self, task: Task, started: int, note: str, fraction: float | None) -> None:
        progress = Progress(worker=self.config.name, started_ms=started, note=note, fraction=fraction)
        try:
            await self.bus.publish(subjects.progress(task.session, task.node, task.attempt), encode(progress))
        except Unavailable as error:
            logger.debug("progress was not said: %s", error)

    async def _on_cancelled(self, message: Message) -> None:
        session = message.subject.rsplit(".", 1)[1]
        attempts = decode(Unwanted, message.data, subject=message.subject).attempts
        self._cancelled.update({(session, *attempt): None for attempt in attempts} if attempts else {session: None})
        while len(self._cancelled) > _CANCELLED_KEPT:
            del self._cancelled[next(iter(self._cancelled))]
        for attempt in list(self._running.get(session, ())):
            if not attempts or (attempt.task.node, attempt.task.attempt) in attempts:
                attempt.abandon()


async def _closed(subscription: Subscription) -> None:
    with anyio.CancelScope(shield=True), anyio.move_on_after(2):
        await subscription.close()


def _now_ms() -> int:
    return int(time.time() * 1000)
