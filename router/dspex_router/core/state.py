"""What a session's journal folds to: the session, and a run for every node of its plan that has started."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from dspex_bus.wire import (
    EndStatus,
    ErrorInfo,
    ParallelNode,
    SequenceNode,
    SessionAccepted,
    SessionEnded,
    StepOutcome,
    TaskNode,
)

from .context import Context

Phase = Literal["running", "closing", "ending", "ended"]
RunStatus = Literal["running", "waiting", "succeeded", "failed", "timed_out", "cancelled", "lost"]
OPEN = ("running", "waiting")


@dataclass(slots=True, kw_only=True, eq=False)
class RunBase:
    """``abandoned`` says why, '' while the run is wanted. Once ``status`` is not open any more, ``written`` holds the
    context fields of a success, and ``error`` is there otherwise."""

    parent: SequenceRun | ParallelRun | None
    context: Context
    started_ms: int
    status: RunStatus = "running"
    ended_ms: int = 0
    abandoned: str = ""
    written: dict[str, Any] = field(default_factory=dict)
    error: ErrorInfo | None = None

    @property
    def open(self) -> bool:
        return self.status in OPEN


@dataclass(slots=True, kw_only=True, eq=False)
class TaskRun(RunBase):
    """``attempt`` is sent while ``running``, and is to be sent at ``due_ms`` while ``waiting``. ``outcome`` is the last
    one recorded."""

    node: TaskNode
    attempt: int = 1
    due_ms: int = 0
    outcome: StepOutcome | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class SequenceRun(RunBase):
    """``context`` is its own layer; ``child`` is the step it is at, at ``position``."""

    node: SequenceNode
    position: int = 0
    child: Run | None = None

    @property
    def current(self) -> Run:
        """``child``, which is there from the sequence's start on."""
        assert self.child is not None
        return self.child


@dataclass(slots=True, kw_only=True, eq=False)
class ParallelRun(RunBase):
    """``children`` in the order written; ``missing`` counts those that have not ended; ``failed`` is the first that did
    without success."""

    node: ParallelNode
    children: list[Run] = field(default_factory=list)
    missing: int = 0
    failed: Run | None = None


Run = TaskRun | SequenceRun | ParallelRun


@dataclass(slots=True, kw_only=True, eq=False)
class Session:
    """Mutable, owned by whoever folds the journal.

    ``runs`` holds every node that has started, by id. ``closing`` is how a session ends that was stopped from outside.
    ``ignored`` counts duplicates and stale events; ``sequence`` is that of the last journal event folded; ``proposed``
    is the end once it is proposed, ``ended`` once it is stored.
    """

    partition: int
    accepted: SessionAccepted
    accepted_ms: int
    now_ms: int
    sequence: int
    root: SequenceRun
    runs: dict[str, Run] = field(default_factory=dict)
    phase: Phase = "running"
    closing: EndStatus | None = None
    cancel_requested: bool = False
    cancel_reason: str = ""
    ignored: int = 0
    proposed: SessionEnded | None = None
    ended: SessionEnded | None = None
    ended_ms: int = 0

    @property
    def id(self) -> str:
        return self.accepted.session
