"""What the session core is told."""

from __future__ import annotations

from msgspec import Struct

from dspex_bus.wire import JournalEvent


class Recorded(Struct, frozen=True, kw_only=True):
    """A journal event, as stored; fed in the order stored. ``time_ms`` is when it was stored.

    ``pool``, ``node`` and ``attempt`` are of a step's outcome. An unstored run's shell numbers its events itself.
    """

    sequence: int
    time_ms: int
    event: JournalEvent
    partition: int = 0
    pool: str = ""
    node: str = ""
    attempt: int = 0


class RetryDue(Struct, frozen=True, kw_only=True):
    """The delay before ``attempt`` of ``node`` is over."""

    time_ms: int
    node: str
    attempt: int


class StepDue(Struct, frozen=True, kw_only=True):
    """The time that ``node`` sleeps, waits for a signal or joins within is over."""

    time_ms: int
    node: str


class DeadlinePassed(Struct, frozen=True, kw_only=True):
    """The run's deadline has passed."""

    time_ms: int


Timer = RetryDue | StepDue | DeadlinePassed
Event = Recorded | Timer
