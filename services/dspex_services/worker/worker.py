"""The worker: takes its pool's tasks, runs them, and says what came of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskStatus

from dspex_bus import Bus, Message, Subscription, subjects
from dspex_bus.claim import LARGE_BYTES
from dspex_bus.clock import keep_time
from dspex_bus.errors import DspexError, NotFound, Unavailable
from dspex_bus.streams import EVENTS
from dspex_bus.wire import (
    ErrorInfo,
    Progress,
    StepFailed,
    StepOutcome,
    StepSucceeded,
    Task,
    Unwanted,
    decode,
    encode,
    error_info,
)

from ..budgets import Ledgers
from ..cache import Cache
from ..handlers import Handlers, Step
from ..tenants import Tenants
from ..threads import Conversation
from .attempt import Abandoned, Attempt
from .cache import StepCache
from .claims import Claims
from .config import WorkerConfig
from .direct import DirectCalls
from .following import Followers
from .hearing import Hearing, decided
from .holding import Held
from .homes import Home, Homes, cancelled
from .presence import Presence
from .stored import StoredTasks
from .streams import Streams
from .threads import Threads
from .watch import Watch

logger = logging.getLogger("dspex.worker")

_TIME_S = 10.0
"""How often the server is asked what time it is."""

_CANCELLED_KEPT = 10_000
_UNWIND_S = 2.0
"""What is cancelled when the drain is over has that long to clean up."""


class Worker:
    """One member of a pool.

        await group.start(Worker(bus, handlers, WorkerConfig(pool="native")).run)

    ``run`` reports readiness once a message has come through to it, and runs until cancelled; then it finishes what
    it has begun, within ``drain_s`` seconds, and leaves. ``claims`` tells its supervisor what it holds.
    """

    def __init__(self, bus: Bus, handlers: Handlers, config: WorkerConfig, claims: Claims | None = None) -> None:
        self.bus = bus
        self.handlers = handlers
        self.config = config
        self.busy = 0
        self.done = 0
        self.cache = Cache(bus)
        self._tenants = Tenants(bus, self.spawn)
        self._ledgers = Ledgers()
        self.streams = Streams(bus, config.name, self.spawn)
        self._kept = StepCache(self.cache, config.pool, config.name, bus.clock)
        self._running = Watch(self._say_soon)
        self._cancelled: dict[str | tuple[str, str, int], None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._held = Held()
        # A slot's thread each for stored tasks, for direct calls, and for what belongs to this worker.
        self._threads = Threads(3 * config.slots)
        self.hearing = Hearing(bus)
        held = claims or Claims.nowhere()
        self.stored = StoredTasks(self, held)
        self.direct = DirectCalls(self, held)
        self._home = Home(self)
        self._homes = Homes(self)
        self._drain_s = config.drain_s
        self._draining: anyio.CancelScope | None = None

    def leave(self, within_s: float) -> None:
        """Have that long for what is begun, in place of ``drain_s``: also when it drains already."""
        self._drain_s = within_s
        if self._draining is not None:
            self._draining.deadline = anyio.current_time() + within_s

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        presence = Presence(self)
        async with AsyncExitStack() as stack:
            stack.callback(self._threads.close)
            subscription = await self.bus.subscribe(subjects.CANCELLED, self._on_cancelled)
            stack.push_async_callback(_closed, subscription)
            await stack.enter_async_context(self.cache)
            await self.handlers.open(self.bus)
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(self.hearing.keep)
                    await group.start(keep_time, self.bus, EVENTS, _TIME_S)
                    await self.direct.start()
                    await self._home.start()
                    await self._probe(stack)
                    await self.stored.start()
                    group.start_soon(self.stored.keep_alive)
                    await group.start(presence.run)
                    task_status.started()
                    await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await self._drain(presence)

    async def _probe(self, stack: AsyncExitStack) -> None:
        """A message to ourselves: ready means that one has come through. Others see by it that we are there."""
        subject = subjects.probe(self.config.name)

        async def answer(message: Message) -> None:
            await self.bus.publish(message.reply, b"")

        subscription = await self.bus.subscribe(subject, answer)
        stack.push_async_callback(_closed, subscription)
        await self.bus.request(subject, timeout_s=10)

    async def _drain(self, presence: Presence) -> None:
        presence.drain()
        async with anyio.create_task_group() as meanwhile:
            await meanwhile.start(presence.run)
            meanwhile.start_soon(self.stored.keep_alive)
            with anyio.move_on_after(self._drain_s) as self._draining:
                await self._home.stop()
                await self.direct.stop()
                await self.stored.stop()
                await self._finished()
            with anyio.move_on_after(2 * _UNWIND_S):
                await self._unwound()
                await self.stored.close()
                await self.handlers.close()
            meanwhile.cancel_scope.cancel()
        await presence.leave()

    async def _finished(self) -> None:
        """Until every attempt has ended and every outcome is stored."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self.stored.settled()

    async def _unwound(self) -> None:
        """Cancel what has not finished."""
        late = list(self._tasks)
        for task in late:
            task.cancel()
        if late:
            logger.warning("%d attempts had not ended when the drain was over", len(late))
            await asyncio.wait(late, timeout=_UNWIND_S)

    # --- what both ways in share ---

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine as a task that the worker owns and awaits when it drains."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("an attempt's bookkeeping failed", exc_info=error)

    def is_cancelled(self, task: Task) -> bool:
        if not self._cancelled:
            return False
        return task.session in self._cancelled or (task.session, task.node, task.attempt) in self._cancelled

    async def _is_wanted(self, task: Task) -> bool:
        try:
            return await decided(self.bus, task, self.config.pool) is None
        except DspexError:
            return False

    async def execute(self, task: Task) -> tuple[StepOutcome | None, Attempt | None]:
        """The outcome, None where the attempt is cancelled; and the attempt, None where there was no need of one."""
        if task.home not in ("", self.config.name):
            elsewhere = await self._homes.outcome(task)
            if elsewhere is not None:
                return (None if cancelled(elsewhere) else elsewhere), None
        if self.handlers.find(task.handler) is None:
            another = await self._homes.of_another(task)
            if another is not None:
                return (None if cancelled(another) else another), None
        if not task.stream:
            return await self._executed(task)
        self.streams.open(task)
        try:
            outcome, attempt = await self._executed(task)
        except BaseException:
            self.streams.interrupt(task)
            raise
        await self.streams.end(task, outcome)
        return outcome, attempt

    async def _executed(self, task: Task) -> tuple[StepOutcome | None, Attempt | None]:
        try:
            handler = self.handlers.get(task.handler)
        except NotFound as error:
            return StepFailed(error=error_info(error), worker=self.config.name), None
        attempt = Attempt(task, handler, self.config.name, self._threads, self.bus.clock)
        run = partial(self._watched, attempt)
        if task.cache_ms and not task.thread:
            program_of = partial(self.handlers.program_of, self.bus, task.options)
            outcome = await self._kept.outcome(task, run, program_of)
        else:
            outcome = await run()
        return outcome, attempt

    def overdue(self, longer_than_s: float) -> list[Attempt]:
        """Those whose handler has been told to stop that long ago, and does not."""
        return [attempt for attempt in self._running if attempt.overdue_s > longer_than_s]

    async def _watched(self, attempt: Attempt) -> StepOutcome | None:
        self._running.add(attempt)
        self.busy += 1
        if self.is_cancelled(attempt.task):
            attempt.abandon()
        step = self._step(attempt.task, attempt) if attempt.takes_step else None
        try:
            outcome = await attempt.run(step)
            if attempt.task.thread and isinstance(outcome, StepSucceeded) and not _has_remembered(step):
                return _forgetful(attempt.task, self.config.name)
            if attempt.task.then and isinstance(outcome, StepSucceeded):
                most_bytes = min(LARGE_BYTES, self.bus.max_payload // 2)
                followers = Followers(
                    attempt, self.handlers, self._step, most_bytes, self.hearing.was_broken, self._is_wanted
                )
                outcome = await followers.run(outcome)
            return outcome
        except Abandoned:
            return None
        finally:
            self._running.remove(attempt)
            self.done += 1
            attempt.when_idle(self._idle)

    def _idle(self) -> None:
        self.busy -= 1

    def _step(self, task: Task, attempt: Attempt) -> Step:
        started = self.bus.clock.now_ms()

        async def say(note: str, fraction: float | None) -> None:
            await self._say(task.session, (task.node, task.attempt), started, note, fraction)

        return Step(
            session=task.session,
            node=task.node,
            attempt=task.attempt,
            worker=self.config.name,
            inputs=task.inputs,
            options=task.options,
            bus=self.bus,
            clock=time.monotonic,
            ends_at=time.monotonic() + min(task.timeout_ms, self.bus.clock.left_ms(task.deadline_ms)) / 1000,
            say=say,
            thread=attempt.in_thread,
            cache=self.cache,
            budget=task.budget,
            used=task.used,
            tenant=task.tenant,
            tenants=self._tenants,
            ledger=self._ledgers.of(task.session) if task.budget is not None else None,
            tokens=self.streams.of(task),
            held=self._held,
            conversation=Conversation(self.bus, task.thread, task.session, task.node) if task.thread else None,
        )

    def _say_soon(self, attempt: Attempt) -> None:
        self.spawn(self._say(attempt.task.session, attempt.place, attempt.started_ms, "", None))

    async def _say(self, session: str, place: tuple[str, int], started: int, note: str, fraction: float | None) -> None:
        progress = Progress(worker=self.config.name, started_ms=started, note=note, fraction=fraction)
        try:
            await self.bus.publish(subjects.progress(session, *place), encode(progress))
        except Unavailable as error:
            logger.debug("progress was not said: %s", error)

    async def _on_cancelled(self, message: Message) -> None:
        session = message.subject.rsplit(".", 1)[1]
        attempts = decode(Unwanted, message.data, subject=message.subject).attempts
        self._cancelled.update({(session, *attempt): None for attempt in attempts} if attempts else {session: None})
        while len(self._cancelled) > _CANCELLED_KEPT:
            del self._cancelled[next(iter(self._cancelled))]
        for attempt in self._running:
            if attempt.task.session == session and (
                not attempts or (attempt.task.node, attempt.task.attempt) in attempts
            ):
                attempt.abandon()


def _has_remembered(step: Step | None) -> bool:
    return step is not None and step.conversation is not None and step.conversation.used


def _forgetful(task: Task, worker: str) -> StepFailed:
    message = f"{task.handler} takes part in no conversation: leave 'remember' out of its step"
    return StepFailed(error=ErrorInfo(code="cannot_remember", message=message), worker=worker)


async def _closed(subscription: Subscription) -> None:
    with anyio.CancelScope(shield=True), anyio.move_on_after(2):
        await subscription.close()
