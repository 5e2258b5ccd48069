"""Tasks and outcomes that cannot travel on: what is kept of them, and what is said instead."""

from __future__ import annotations

import logging

from msgspec import structs

from dspex_bus import Bus, Delivery, subjects
from dspex_bus.bus import Headers
from dspex_bus.claim import Claims, claim_of
from dspex_bus.errors import DecodeError, PayloadTooLarge, StoreFailed
from dspex_bus.streams import DEFAULT_PARTITIONS, EVENTS, PARTITIONS_KEY
from dspex_bus.subjects import TaskSubject
from dspex_bus.wire import ErrorInfo, StepFailed, StepOutcome, StepSucceeded, Task, decode_task, encode

_DOTS = subjects.task("pool", "lane", "session", "node", 1).count(".")

logger = logging.getLogger("dspex.worker")


def place_of(delivery: Delivery) -> TaskSubject | None:
    """Which attempt it is, None where the subject does not say."""
    try:
        place = subjects.split_task(delivery.subject)
    except (LookupError, ValueError):
        return None
    return place if subjects.task(*place) == delivery.subject else None


def read_plain(delivery: Delivery, lane: str) -> Task | None:
    """A task that is in its message, and that its subject names; None where that takes a closer look. ``lane`` is what
    the subject begins with."""
    if not delivery.data or delivery.subject.count(".") != _DOTS:
        return None
    try:
        task = decode_task(delivery.data, subject=delivery.subject)
    except DecodeError:
        return None
    return task if delivery.subject == f"{lane}{task.session}.{task.node}.{task.attempt}" else None


async def read_task(claims: Claims, delivery: Delivery, place: TaskSubject) -> Task:
    """Raises DecodeError, also where the task is another's than its subject says."""
    data = await claims.unpack(delivery.subject, delivery.data, delivery.headers)
    task = decode_task(data, subject=delivery.subject)
    if (task.session, task.node, task.attempt) != (place.session, place.node, place.attempt):
        raise DecodeError(
            f"the task on {delivery.subject} says that it is attempt {task.attempt} of {task.node} in {task.session}",
            subject=delivery.subject,
            raw=delivery.data,
        )
    return task


async def partition_of(bus: Bus, session: str) -> int:
    """For where the task does not say it."""
    metadata = (await bus.stream_info(EVENTS))["metadata"]
    return subjects.partition_of(session, int(metadata.get(PARTITIONS_KEY, DEFAULT_PARTITIONS)))


async def bury(bus: Bus, delivery: Delivery, reason: ErrorInfo) -> None:
    """Keep the task as a dead letter, with the reason. Where the server refuses it there is only the log: the session
    shall not hang on it."""
    place = place_of(delivery)
    if place is None:
        subject = subjects.dead_unnamed(delivery.subject)
    else:
        subject = subjects.dead(place.pool, place.session, place.node, place.attempt)
    reason_and_place = {"Dspex-Reason": encode(reason).decode(), "Dspex-Subject": delivery.subject}
    headers = {**reason_and_place, **(claim_of(delivery.headers) if not delivery.data else {})}
    try:
        if not await _fits(bus, subject, delivery.data, headers):
            await bus.store_and_wait(subject, b"", headers=headers, once=True)
    except StoreFailed as error:
        logger.error("%s could not be kept as a dead letter: %s", delivery.subject, error)


async def _fits(bus: Bus, subject: str, data: bytes, headers: Headers) -> bool:
    """Stored, unless it is too large."""
    try:
        await bus.store_and_wait(subject, data, headers=headers, once=True)
    except PayloadTooLarge:
        return False
    return True


def smaller(outcome: StepOutcome, refusal: PayloadTooLarge) -> StepOutcome:
    """In place of an outcome that nothing can carry: one with fewer of the steps that travelled along, or one that
    says what was large."""
    if isinstance(outcome, StepSucceeded) and outcome.then:
        return structs.replace(outcome, then=outcome.then[: len(outcome.then) // 2])
    return _too_large(outcome, refusal)


def _too_large(outcome: StepOutcome, refusal: PayloadTooLarge) -> StepFailed:
    sizes = {}
    if isinstance(outcome, StepSucceeded):
        sizes = {name: len(encode(value)) for name, value in outcome.outputs.items()}
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:3]
    named = ", ".join(f"{name} ({count} bytes)" for name, count in largest)
    error = ErrorInfo(
        code="payload_too_large",
        message=f"the outcome is too large: {refusal.message}; the largest outputs: {named}",
        details={**refusal.details, "outputs": dict(largest)},
    )
    return StepFailed(error=error, worker=getattr(outcome, "worker", ""))
