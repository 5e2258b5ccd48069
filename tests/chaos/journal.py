"""The journal as it was stored, session by session."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dspex_bus import Bus
from dspex_bus.claim import Claims
from dspex_bus.streams import EVENTS
from dspex_bus.subjects import JOURNAL, split_journal
from dspex_bus.wire import JournalEvent, SessionAccepted, SessionEnded, StepSucceeded, decode_event, succeeded


@dataclass(frozen=True)
class Kept:
    """One event of the journal. Of steps that travelled as one task those after the first have fractions of its
    sequence."""

    sequence: float
    time_ms: int
    session: str
    slot: str
    kind: str
    pool: str
    node: str
    attempt: int
    event: JournalEvent


async def read_journal(bus: Bus) -> list[Kept]:
    """Everything the journal holds, in the order stored, wherever it is kept."""
    found, claims = [], Claims(bus)
    async for message in bus.history(EVENTS, f"{JOURNAL}.>"):
        where = split_journal(message.subject)
        data = await claims.unpack(message.subject, message.data, message.headers)
        event = decode_event(data, subject=message.subject)
        slot = message.subject.split(".", 5)[5]
        found.append(
            Kept(
                message.sequence,
                message.time_ms,
                where.session,
                slot,
                where.kind,
                where.pool,
                where.node,
                where.attempt,
                event,
            )
        )
        if isinstance(event, StepSucceeded):
            found += _along(found[-1], event)
    return found


def _along(first: Kept, event: StepSucceeded) -> Iterator[Kept]:
    """The steps that travelled with one, as if each had been stored by itself."""
    for place, followed in enumerate(event.then, 1):
        slot = f"step.{first.pool}.{followed.node}.1"
        sequence, outcome = first.sequence + place / 1000, succeeded(followed, event.worker)
        yield replace(first, sequence=sequence, slot=slot, node=followed.node, attempt=1, event=outcome)


class History:
    """One session's part of the journal."""

    def __init__(self, session: str, events: Sequence[Kept]) -> None:
        self.session = session
        self.events = events
        self.outcomes: dict[str, list[Kept]] = defaultdict(list)
        for kept in events:
            if kept.kind == "step":
                self.outcomes[kept.node].append(kept)

    def of(self, kind: type) -> list[Kept]:
        return [kept for kept in self.events if isinstance(kept.event, kind)]

    @property
    def accepted(self) -> SessionAccepted | None:
        first = self.events[0].event
        return first if isinstance(first, SessionAccepted) else None

    @property
    def ended(self) -> Kept | None:
        ends = self.of(SessionEnded)
        return ends[0] if len(ends) == 1 else None


def histories(journal: Sequence[Kept]) -> dict[str, History]:
    by_session: dict[str, list[Kept]] = defaultdict(list)
    for kept in journal:
        by_session[kept.session].append(kept)
    return {session: History(session, events) for session, events in by_session.items()}
