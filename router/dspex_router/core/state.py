"""What a session's journal folds to."""

from __future__ import annotations

from dataclasses import dataclass

from dspex_bus.wire import SessionAccepted, SessionEnded


@dataclass(slots=True)
class Session:
    """Mutable, owned by whoever folds the journal. ``ignored`` counts duplicates and stale events; ``sequence`` is that
    of the last journal event folded; ``proposed`` is the end once it is proposed, ``ended`` once it is stored."""

    partition: int
    accepted: SessionAccepted
    accepted_ms: int
    sequence: int
    ignored: int = 0
    proposed: SessionEnded | None = None
    ended: SessionEnded | None = None
    ended_ms: int = 0
