"""A session's machine."""

from __future__ import annotations

from .commands import Command
from .events import Event
from .state import Session


def decide(state: Session | None, event: Event) -> tuple[Session, list[Command]]:
    """Fold one event. ``state`` is None before ``session.accepted`` and is consumed: use only what is returned.

    Duplicates and stale events change nothing but ``ignored``. Raises BrokenJournal for what only a bug can cause: an
    event before ``session.accepted``, or a second, different one.
    """
    raise NotImplementedError


def resume(state: Session) -> list[Command]:
    """The commands that are still open, for a shell that has just folded a journal: attempts to send again, outcomes and
    the end to propose, timers to arm, or the finish."""
    raise NotImplementedError
