"""What the session core asks its shell to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dspex_bus.wire import Parent, RunResult, SessionAccepted, SessionEnded, StepOutcome, Task

from .events import Timer


@dataclass(slots=True, frozen=True)
class Dispatch:
    """Send an attempt to a pool, once it has a permit of each of its limits. Sending it twice does no harm: a task's
    subject is create-once."""

    pool: str
    task: Task
    limits: tuple[str, ...] = ()


@dataclass(slots=True, frozen=True)
class StartChild:
    """Start a session for a step that is a pipeline. Starting it twice does no harm."""

    accepted: SessionAccepted


@dataclass(slots=True, frozen=True)
class TellChild:
    """Have a child session cancelled, paused or resumed."""

    session: str
    verb: Literal["cancel", "pause", "resume"]


@dataclass(slots=True, frozen=True)
class RecordOutcome:
    """Propose an attempt's outcome; whoever fills the slot first decides it. What is stored comes back as Recorded."""

    pool: str
    node: str
    attempt: int
    outcome: StepOutcome


@dataclass(slots=True, frozen=True)
class RecordEnd:
    """Propose the session's end. What is stored comes back as Recorded."""

    ended: SessionEnded


@dataclass(slots=True, frozen=True)
class SetTimer:
    """Feed ``event`` back at ``at_ms`` (milliseconds since the epoch; at once when that is past)."""

    at_ms: int
    event: Timer


@dataclass(slots=True, frozen=True)
class TellCancelled:
    """Tell workers, unstored, that the session's open attempts are abandoned: all, or the (node, attempt) in
    ``attempts``."""

    attempts: tuple[tuple[str, int], ...] = ()


@dataclass(slots=True, frozen=True)
class Finish:
    """The end is stored: send ``result`` to ``reply`` (unless that is '') encoded as ``reply_content``, propose
    ``report`` as the outcome of the ``parent``'s step, then forget the session and its timers."""

    result: RunResult
    reply: str = ""
    reply_content: str = ""
    parent: Parent | None = None
    report: StepOutcome | None = None


Command = Dispatch | StartChild | TellChild | RecordOutcome | RecordEnd | SetTimer | TellCancelled | Finish
