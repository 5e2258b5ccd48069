"""What the session core asks its shell to do."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from dspex_bus.wire import Parent, RunResult, SessionAccepted, SessionEnded, StepOutcome, Task

from .events import Timer


class Dispatch(Struct, frozen=True):
    """Send an attempt to a pool, once it has a permit of each of its limits. Sending it twice does no harm: a task's
    subject is create-once."""

    pool: str
    task: Task
    limits: tuple[str, ...] = ()


class StartChild(Struct, frozen=True):
    """Start a session for a step that is a pipeline. Starting it twice does no harm."""

    accepted: SessionAccepted


class TellChild(Struct, frozen=True):
    """Have a child session cancelled, paused or resumed."""

    session: str
    verb: Literal["cancel", "pause", "resume"]


class RecordOutcome(Struct, frozen=True):
    """Propose an attempt's outcome; whoever fills the slot first decides it. What is stored comes back as Recorded."""

    pool: str
    node: str
    attempt: int
    outcome: StepOutcome


class RecordEnd(Struct, frozen=True):
    """Propose the session's end. What is stored comes back as Recorded."""

    ended: SessionEnded


class SetTimer(Struct, frozen=True):
    """Feed ``event`` back at ``at_ms`` (milliseconds since the epoch; at once when that is past)."""

    at_ms: int
    event: Timer


class TellCancelled(Struct, frozen=True):
    """Tell workers, unstored, that the session's open attempts are abandoned: all, or the (node, attempt) in
    ``attempts``."""

    attempts: tuple[tuple[str, int], ...] = ()


class Finish(Struct, frozen=True):
    """The end is stored: send ``result`` to ``reply`` (unless that is '') encoded as ``reply_content``, propose
    ``report`` as the outcome of the ``parent``'s step, then forget the session and its timers."""

    result: RunResult
    reply: str = ""
    reply_content: str = ""
    parent: Parent | None = None
    report: StepOutcome | None = None


Command = Dispatch | StartChild | TellChild | RecordOutcome | RecordEnd | SetTimer | TellCancelled | Finish
