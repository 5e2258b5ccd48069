"""Steps that travelled together, as one event each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from .api import StoredEvent
from .journal import Followed, StepSucceeded


def succeeded(followed: Followed, worker: str) -> StepSucceeded:
    """The outcome that the step would have had by itself."""
    return StepSucceeded(
        outputs=followed.outputs,
        worker=worker,
        started_ms=followed.started_ms,
        duration_us=followed.duration_us,
        usage=followed.usage,
    )


def spread(stored: StoredEvent) -> Iterator[StoredEvent]:
    """The event, and after it one for each step that travelled with its own."""
    event = stored.event
    if not isinstance(event, StepSucceeded) or not event.then:
        yield stored
        return
    yield replace(stored, event=replace(event, then=()))
    for followed in event.then:
        yield replace(stored, event=succeeded(followed, event.worker), node=followed.node, attempt=1)


def joined(events: Iterable[StoredEvent]) -> list[StoredEvent]:
    """What was stored: events as they were before they were spread."""
    found: list[StoredEvent] = []
    for stored in events:
        if not found or found[-1].sequence != stored.sequence:
            found.append(stored)
            continue
        head, event = found[-1].event, stored.event
        assert isinstance(head, StepSucceeded)
        assert isinstance(event, StepSucceeded)
        followed = Followed(
            node=stored.node,
            outputs=event.outputs,
            started_ms=event.started_ms,
            duration_us=event.duration_us,
            usage=event.usage,
        )
        found[-1] = replace(found[-1], event=replace(head, then=(*head.then, followed)))
    return found
