"""Stored tasks: taken from the pool's work queue, acknowledged once their outcome is in the journal."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import anyio

from dspex_bus import Consumer, Delivery, Stored, subjects
from dspex_bus.errors import DecodeError, DspexError, NotFound, PayloadTooLarge
from dspex_bus.streams import EVENTS, TASKS
from dspex_bus.wire import (
    RESENT,
    ErrorInfo,
    StepFailed,
    StepLost,
    StepOutcome,
    StepSucceeded,
    decode_task,
    encode,
    encode_event,
    error_info,
)

from .config import MAX_DELIVERIES

if TYPE_CHECKING:
    from .worker import Worker

logger = logging.getLogger("dspex.worker")

_LOOK_S = 0.25
_RETRY_S = 1.0
"""A task whose outcome could not be stored is given back and comes again after that."""


class StoredTasks:
    """Wants exactly as many tasks as there are free slots, and keeps those it has from being delivered elsewhere."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._consumer: Consumer | None = None
        self._held: set[Delivery] = set()
        self._stopping = False

    async def start(self) -> None:
        self._consumer = await self._joined()
        await self._consumer.want(self._worker.config.slots)

    async def _joined(self) -> Consumer:
        """The pool's consumer, once there is a stream: routers make it, and one of them may start after us."""
        config, told = self._worker.config, False
        while True:
            try:
                return await self._worker.bus.consume(
                    TASKS,
                    subjects.durable(config.pool, config.lane),
                    subjects.lane_tasks(config.pool, config.lane),
                    self._on_delivery,
                    ack_wait_s=config.ack_wait_s,
                )
            except NotFound:
                if not told:
                    logger.warning("there is no task stream yet; waiting for a router to make it: dspex router")
                told = True
                await anyio.sleep(_LOOK_S)

    async def stop(self) -> None:
        """Want no more."""
        self._stopping = True
        if self._consumer is not None:
            await self._consumer.pause()

    async def close(self) -> None:
        """Give back what was not finished."""
        for delivery in list(self._held):
            await delivery.nak()
        if self._consumer is not None:
            await self._consumer.close()

    async def keep_alive(self) -> None:
        """Say of every task held that it is still in work, three times in an ack wait, from the event loop."""
        while True:
            await anyio.sleep(self._worker.config.ack_wait_s / 3)
            for delivery in list(self._held):
                await delivery.in_progress()

    async def _on_delivery(self, delivery: Delivery) -> None:
        if self._stopping:
            await delivery.nak()
            return
        self._held.add(delivery)
        self._worker.spawn(self._attempt(delivery))

    async def _attempt(self, delivery: Delivery) -> None:
        thread: asyncio.Future[Any] | None = None
        try:
            thread = await self._settle(delivery)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            logger.exception("%s was given back", delivery.subject)
            await self._give_back(delivery, error)
        finally:
            if thread is None:
                self._free()
            else:
                thread.add_done_callback(lambda _: self._free())

    def _free(self) -> None:
        if not self._stopping and self._consumer is not None:
            self._worker.spawn(self._consumer.want(1))

    async def _settle(self, delivery: Delivery) -> asyncio.Future[Any] | None:
        """See to it that the attempt's slot is filled and the task acknowledged after that."""
        place = subjects.split_task(delivery.subject)
        try:
            task = decode_task(delivery.data, subject=delivery.subject)
        except DecodeError as error:
            await self._bury(delivery, error_info(error))
            return None
        slot = subjects.outcome(task.partition, place.session, place.pool, place.node, place.attempt)
        again = delivery.deliveries > 1 or bool(delivery.headers and RESENT in delivery.headers)
        if again and await self._worker.bus.last(EVENTS, slot) is not None:
            await self._done(delivery)
            return None
        if delivery.deliveries >= MAX_DELIVERIES:
            await self._lose(delivery, slot)
            return None
        if self._worker.is_cancelled(place.session, place.node, place.attempt):
            await self._done(delivery)
            return None
        outcome, thread = await self._worker.execute(task)
        if outcome is None:
            await self._done(delivery)
        else:
            await self._record(delivery, slot, outcome)
        return thread

    async def _record(self, delivery: Delivery, slot: str, outcome: StepOutcome) -> None:
        data, headers = encode_event(outcome, slot)

        def then(result: Stored | Exception) -> None:
            if isinstance(result, Exception):
                self._worker.spawn(self._give_back(delivery, result))
            else:
                # Stored by us, or filled before by somebody: either way there is an outcome.
                self._worker.spawn(self._done(delivery))

        try:
            await self._worker.bus.store(slot, data, headers=headers, once=True, then=then)
        except PayloadTooLarge:
            await self._record(delivery, slot, too_large(outcome, len(data)))

    async def _lose(self, delivery: Delivery, slot: str) -> None:
        error = ErrorInfo(
            code="worker_lost",
            message=f"delivered {delivery.deliveries - 1} times, and no worker lived to tell the outcome",
        )
        await self._bury(delivery, error, ack=False)
        await self._record(delivery, slot, StepLost(error=error, deliveries=delivery.deliveries))

    async def _bury(self, delivery: Delivery, error: ErrorInfo, *, ack: bool = True) -> None:
        """Keep the task as a dead letter, with the reason."""
        place = subjects.split_task(delivery.subject)
        subject = subjects.dead(place.pool, place.session, place.node, place.attempt)
        headers = {"Dspex-Reason": encode(error).decode(), "Dspex-Subject": delivery.subject}
        await self._worker.bus.store_and_wait(subject, delivery.data, headers=headers, once=True)
        if ack:
            await self._done(delivery)

    async def _done(self, delivery: Delivery) -> None:
        self._held.discard(delivery)
        await delivery.ack()

    async def _give_back(self, delivery: Delivery, reason: Exception) -> None:
        self._held.discard(delivery)
        logger.warning("%s goes back to the queue: %s", delivery.subject, reason)
        try:
            await delivery.nak(_RETRY_S)
        except DspexError as error:
            logger.warning("%s was not given back, its ack wait will do it: %s", delivery.subject, error)


def too_large(outcome: StepOutcome, size: int) -> StepFailed:
    """In place of an outcome that no message can carry: what was large."""
    sizes = {}
    if isinstance(outcome, StepSucceeded):
        sizes = {name: len(encode(value)) for name, value in outcome.outputs.items()}
    largest = ", ".join(
        f"{name} ({count} bytes)" for name, count in sorted(sizes.items(), key=lambda item: -item[1])[:3]
    )
    error = ErrorInfo(
        code="payload_too_large",
        message=f"the outcome has {size} bytes, more than one message carries; the largest outputs: {largest}",
        details={"size": size, "outputs": sizes},
    )
    return StepFailed(error=error, worker=getattr(outcome, "worker", ""))
