"""Stored tasks: taken from the pool's work queue, acknowledged once their outcome is in the journal."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import anyio

from dspex_bus import Consumer, Delivery, Stored, subjects
from dspex_bus.bus import Headers
from dspex_bus.claim import Claims as ObjectClaims
from dspex_bus.claim import claimed
from dspex_bus.errors import DecodeError, DspexError, NotFound, ObjectGone, PayloadTooLarge
from dspex_bus.streams import EVENTS, TASKS
from dspex_bus.subjects import TaskSubject
from dspex_bus.wire import (
    ErrorInfo,
    StepFailed,
    StepLost,
    StepOutcome,
    Task,
    alone,
    encode_event,
    error_info,
)

from .attempt import Attempt
from .claims import Claims
from .config import MAX_DELIVERIES
from .deaths import Verdict, deaths_of, verdict
from .hearing import decided, may_be_over
from .lanes import Lanes
from .unrunnable import bury, partition_of, place_of, read_plain, read_task, smaller

if TYPE_CHECKING:
    from .worker import Worker

logger = logging.getLogger("dspex.worker")

_LOOK_S = 0.25
_RETRY_S = 1.0
"""A task whose outcome could not be stored is given back and comes again after that."""

_STUBBORN_S = 2.0
"""A coroutine that goes on for that long after it was cancelled is not waited for."""


@dataclass(eq=False)
class Held:
    """An attempt in our hands. It may be delivered again while we run it: then it has several ``deliveries``.
    ``recorded``: its outcome is on its way to the journal. ``claim`` says where a large task is kept, until nobody
    needs it. ``lane`` is what its subject begins with."""

    subject: str
    lane: str
    deliveries: list[Delivery]
    recorded: bool = False
    claim: Headers | None = None


class StoredTasks:
    """Wants exactly as many tasks as there are free slots, and keeps those it has from being delivered elsewhere.

    ``redelivered`` counts tasks that had been delivered before, ``late`` outcomes whose slot was filled by somebody
    else before: they changed nothing."""

    def __init__(self, worker: Worker, claims: Claims) -> None:
        self._worker = worker
        self._claims = claims
        self._lanes: Lanes[Held] = Lanes(worker.config.slots, self._begin, worker.spawn)
        self._objects = ObjectClaims(worker.bus)
        self._held: dict[str, Held] = {}
        self._released = asyncio.Event()
        self._stored: list[Held] = []
        self._begins = {
            lane: subjects.lane_tasks(worker.config.pool, lane).removesuffix(">") for lane in subjects.LANES
        }
        self._freed = 0
        self._tidying = False
        self._suspects = asyncio.Lock()
        self.redelivered = 0
        self.late = 0

    async def start(self) -> None:
        await self._lanes.open({lane: await self._joined(lane) for lane in subjects.LANES})

    async def _joined(self, lane: str) -> Consumer:
        """The pool's consumer, once there is a stream: routers make it, and one of them may start after us."""
        config, told = self._worker.config, False
        while True:
            try:
                return await self._worker.bus.consume(
                    TASKS,
                    subjects.durable(config.pool, lane),
                    subjects.lane_tasks(config.pool, lane),
                    partial(self._on_delivery, lane),
                    ack_wait_s=config.ack_wait_s,
                )
            except NotFound:
                if not told:
                    logger.warning("there is no task stream yet; waiting for a router to make it: dspex router")
                told = True
            await anyio.sleep(_LOOK_S)

    async def stop(self) -> None:
        """Want no more. What we have is still run: to give it back would cost it a delivery."""
        await self._lanes.stop()

    async def settled(self) -> None:
        """Until every outcome is stored."""
        while self._held:
            self._released.clear()
            await self._released.wait()

    async def close(self) -> None:
        """Give back what was not finished."""
        for held in list(self._held.values()):
            await self._give_back(held)
        await self._lanes.close()

    async def keep_alive(self) -> None:
        """Say of every task held that it is still in work, three times in an ack wait, from the event loop."""
        while True:
            await anyio.sleep(self._worker.config.ack_wait_s / 3)
            for attempt in self._worker.overdue(_STUBBORN_S):
                await self._give_up(attempt)
            for delivery in [delivery for held in self._held.values() for delivery in held.deliveries]:
                if self._worker.bus.connected:
                    await delivery.in_progress()

    async def _on_delivery(self, lane: str, delivery: Delivery) -> None:
        self._claims.add(delivery.receipt)
        held = self._held.get(delivery.subject)
        if held is not None:
            held.deliveries.append(delivery)
            await self._lanes.dropped(lane)
            return
        held = self._held[delivery.subject] = Held(delivery.subject, self._begins[lane], [delivery])
        if claimed(delivery.data, delivery.headers) is not None:
            held.claim = delivery.headers
        self._lanes.came(lane, held)

    def _begin(self, held: Held) -> None:
        self._worker.spawn(self._attempt(held))

    async def _attempt(self, held: Held) -> None:
        attempt: Attempt | None = None
        try:
            attempt = await self._settled_or_back(held)
        finally:
            if attempt is None:
                self._free()
            else:
                attempt.when_idle(self._free)

    async def _settled_or_back(self, held: Held) -> Attempt | None:
        try:
            return await self._settle(held, held.deliveries[0])
        except Exception as error:  # whatever it is, the task is not lost: another worker may do better
            logger.warning("%s goes back to the queue: %s", held.subject, error, exc_info=not _ours(error))
        await self._give_back(held, _RETRY_S)
        return None

    def _free(self) -> None:
        self._freed += 1
        self._tidy_soon()

    def _tidy_soon(self) -> None:
        if not self._tidying:
            self._tidying = True
            self._worker.spawn(self._tidy())

    async def _tidy(self) -> None:
        """Want a task for each free slot, and acknowledge what is stored: once for all that come together."""
        self._tidying = False
        freed, self._freed = self._freed, 0
        stored, self._stored = self._stored, []
        if freed:
            await self._lanes.free(freed)
        for held in stored:
            try:
                await self._done(held)
            except DspexError as error:
                logger.warning("%s was not acknowledged; it comes again, and then is: %s", held.subject, error)

    async def _settle(self, held: Held, delivery: Delivery) -> Attempt | None:
        """See to it that the attempt's slot is filled and the task acknowledged after that."""
        task = read_plain(delivery, held.lane) or await self._read(held, delivery)
        if task is None:
            return None
        slot = self._slot(task)
        again = delivery.deliveries > 1 or may_be_over(delivery)
        self.redelivered += delivery.deliveries > 1
        if again or self._worker.hearing.doubts(delivery):
            found = await decided(self._worker.bus, task, self._worker.config.pool)
            if found is not None:
                await self._worker.streams.settle(task, found.outcome)
                await self._done(held)
                return None
        told = await self._verdict(delivery, task) if delivery.deliveries >= MAX_DELIVERIES else "run"
        if told == "lost":
            await self._lose(held, delivery, task)
            return None
        if self._worker.is_cancelled(task):
            await self._worker.streams.settle(task, None)
            await self._done(held)
            return None
        if delivery.deliveries > 1:
            task = alone(task)  # should one that travels along kill its workers, then it shall be on its own account
        if told == "run":
            outcome, attempt = await self._execute(held, task)
        else:
            async with self._suspects:
                outcome, attempt = await self._execute(held, task)
        if outcome is None:
            await self._done(held)
        elif not held.recorded:
            await self._record(held, slot, outcome)
        return attempt

    async def _read(self, held: Held, delivery: Delivery) -> Task | None:
        """None where it cannot be read; that is seen to."""
        place = place_of(delivery)
        if place is None:
            error = ErrorInfo(code="malformed_message", message=f"{delivery.subject} is no task's subject")
            await bury(self._worker.bus, delivery, error)
            await self._done(held)
            return None
        try:
            return await read_task(self._objects, delivery, place)
        except DecodeError as error:
            unreadable = error
        await self._refuse(held, delivery, place, unreadable)
        return None

    async def _execute(self, held: Held, task: Task) -> tuple[StepOutcome | None, Attempt | None]:
        for delivery in held.deliveries:
            self._claims.run(delivery.receipt)
        return await self._worker.execute(task)

    async def _verdict(self, delivery: Delivery, task: Task) -> Verdict:
        """Whether it is run, and with what others. A handler that resumes is never given up."""
        if self._worker.handlers.resumes(task.handler):
            return "run"
        supervised = self._claims.shared
        return verdict(delivery.deliveries, await deaths_of(self._worker.bus, delivery.receipt) if supervised else None)

    async def _refuse(self, held: Held, delivery: Delivery, place: TaskSubject, error: DecodeError) -> None:
        """Nobody else would ever fill the slot of a task that cannot be read, and the session wait for it."""
        partition = await partition_of(self._worker.bus, place.session)
        slot = subjects.outcome(partition, place.session, place.pool, place.node, place.attempt)
        if isinstance(error, ObjectGone) and await self._worker.bus.last(EVENTS, slot) is not None:
            await self._done(held)  # that is why it is gone
            return
        held.claim = None  # the dead letter names it
        await bury(self._worker.bus, delivery, error_info(error))
        await self._record(held, slot, StepFailed(error=error_info(error), worker=self._worker.config.name))

    def _slot(self, task: Task) -> str:
        return subjects.outcome(task.partition, task.session, self._worker.config.pool, task.node, task.attempt)

    async def _record(self, held: Held, slot: str, outcome: StepOutcome) -> None:
        held.recorded = True
        headers: Headers | None
        data, headers = encode_event(outcome, slot)
        if self._objects.large(data):
            refusal: PayloadTooLarge | None = None
            try:
                data, headers = await self._objects.pack(slot, data, headers)
            except PayloadTooLarge as error:
                refusal = error
            if refusal is not None:
                await self._record(held, slot, smaller(outcome, refusal))
                return

        def then(result: Stored | Exception) -> None:
            if isinstance(result, Exception):
                logger.warning("%s goes back to the queue: %s", held.subject, result)
                self._worker.spawn(self._give_back(held, _RETRY_S))
            else:
                # Stored by us, or filled before by somebody: either way there is an outcome.
                self.late += not result.created
                self._stored.append(held)
                self._tidy_soon()
                if not data and not result.created:
                    self._worker.spawn(self._objects.drop_unless_stored(slot, headers))

        await self._worker.bus.store(slot, data, headers=headers, once=True, then=then)

    async def _lose(self, held: Held, delivery: Delivery, task: Task) -> None:
        error = ErrorInfo(
            code="worker_lost",
            message=f"delivered {delivery.deliveries - 1} times, and no worker lived to tell the outcome",
        )
        outcome = StepLost(error=error, deliveries=delivery.deliveries)
        held.claim = None  # the dead letter names it
        await bury(self._worker.bus, delivery, error)
        await self._worker.streams.settle(task, outcome)
        await self._record(held, self._slot(task), outcome)

    async def _give_up(self, attempt: Attempt) -> None:
        """Record the timeout of a coroutine that does not obey it; its slot is not free before it ends."""
        config, task = self._worker.config, attempt.task
        place = (config.pool, task.session, task.node, task.attempt)
        tasks = (subjects.task(place[0], lane, *place[1:]) for lane in subjects.LANES)
        held = next((self._held[subject] for subject in tasks if subject in self._held), None)
        if held is not None and not held.recorded:
            logger.error("step %s of %s ignores its cancellation", attempt.place[0], task.session)
            outcome = attempt.given_up()
            await self._worker.streams.end(task, outcome)
            await self._record(held, self._slot(task), outcome)

    async def _done(self, held: Held) -> None:
        for delivery in self._release(held):
            await delivery.ack()
        if held.claim is not None:
            await self._objects.drop(held.subject, held.claim)

    async def _give_back(self, held: Held, delay_s: float = 0.0) -> None:
        try:
            for delivery in self._release(held):
                await delivery.nak(delay_s)
        except DspexError as error:
            logger.warning("%s was not given back, its ack wait will do it: %s", held.subject, error)

    def _release(self, held: Held) -> list[Delivery]:
        """Its deliveries, which are not ours any more."""
        if self._held.get(held.subject) is held:
            del self._held[held.subject]
        deliveries, held.deliveries = held.deliveries, []
        for delivery in deliveries:
            self._claims.remove(delivery.receipt)
        if not self._held:
            self._released.set()
        return deliveries


def _ours(error: Exception) -> bool:
    return isinstance(error, DspexError)
