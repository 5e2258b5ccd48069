"""What the session core is told."""

from __future__ import annotations

from dataclasses import dataclass

from dspex_bus.wire import JournalEvent


@dataclass(slots=True, frozen=True, kw_only=True)
class Recorded:
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


@dataclass(slots=True, frozen=True, kw_only=True)
class RetryDue:
    """The delay before ``attempt`` of ``node`` is over."""

    time_ms: int
    node: str
    attempt: int


@dataclass(slots=True, frozen=True, kw_only=True)
class StepDue:
    """The time that ``node`` sleeps, waits for a signal or joins within is over."""

    time_ms: int
    node: str


@dataclass(slots=True, frozen=True, kw_only=True)
class DeadlinePassed:
    """The run's deadline has passed."""

    time_ms: int


Timer = RetryDue | StepDue | DeadlinePassed
Event = Recorded | Timer
