"""What a session's journal folds to: the session, and a run for every node of its plan that has started."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from dspex_bus.context import Context
from dspex_bus.wire import (
    BranchNode,
    EndStatus,
    ErrorInfo,
    LoopNode,
    MapNode,
    ParallelNode,
    SequenceNode,
    SessionAccepted,
    SessionEnded,
    SignalReceived,
    StepNode,
    StepOutcome,
    StepSucceeded,
    Usage,
)

Phase = Literal["running", "closing", "ending", "ended"]
RunStatus = Literal["running", "waiting", "succeeded", "failed", "timed_out", "cancelled", "lost"]
Settled = Literal["", "enough", "hopeless", "timed_out"]
OPEN = frozenset({"running", "waiting"})


class RunBase(Struct, kw_only=True, eq=False):
    """``id`` is the node's place, with the numbers of items and rounds. ``abandoned`` says why, '' while the run is
    wanted. Once ``status`` is not open any more, ``written`` holds the context fields of a success, and ``error`` is
    there otherwise."""

    id: str
    parent: GroupRun | None
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


class StepRun(RunBase, kw_only=True, eq=False):
    """``attempt`` is sent while ``running``, and is to be sent at ``due_ms`` while ``waiting``; ``held``: it is not,
    because the session is paused. ``outcome`` is the last one recorded. ``taken`` is the signal that ends a wait."""

    node: StepNode
    attempt: int = 1
    due_ms: int = 0
    held: bool = False
    outcome: StepOutcome | None = None
    taken: SignalReceived | None = None


class SequenceRun(RunBase, kw_only=True, eq=False):
    """``context`` is its own layer; ``child`` is the step it is at, at ``position``. ``ready`` are the outcomes
    of steps after it that travelled along, the last first."""

    node: SequenceNode
    position: int = 0
    child: Run | None = None
    ready: list[StepSucceeded] = field(default_factory=list)


class Result(Struct, frozen=True):
    """How one branch of a join ended."""

    name: str
    status: RunStatus
    written: dict[str, Any]
    error: ErrorInfo | None


class JoinRun(RunBase, kw_only=True, eq=False):
    """``branches`` are those that run, ``results`` of those that have ended, both by place. ``settled`` says why the
    others are not needed any more; ``winner`` is the place of the first success, ``failed`` the first failure."""

    results: list[Result | None]
    branches: dict[int, Run] = field(default_factory=dict)
    ended: int = 0
    succeeded: int = 0
    winner: int | None = None
    failed: Result | None = None
    settled: Settled = ""


class ParallelRun(JoinRun, kw_only=True, eq=False):
    node: ParallelNode


class MapRun(JoinRun, kw_only=True, eq=False):
    """``items`` as they were when it started; those before ``following`` have been started."""

    node: MapNode
    items: list[Any]
    following: int = 0


class BranchRun(RunBase, kw_only=True, eq=False):
    """``child`` is the body that was chosen, None where there was none to choose."""

    node: BranchNode
    child: Run | None = None


class LoopRun(RunBase, kw_only=True, eq=False):
    """``context`` is its own layer, into which every round writes; ``child`` is round number ``round``, from 0."""

    node: LoopNode
    round: int = 0
    child: Run | None = None


GroupRun = SequenceRun | ParallelRun | MapRun | BranchRun | LoopRun
Run = StepRun | GroupRun


class Counts(Struct):
    """Runs of a node that runs more than once."""

    started: int = 0
    succeeded: int = 0
    failed: int = 0


class Session(Struct, kw_only=True, eq=False):
    """Mutable, owned by whoever folds the journal.

    ``runs`` holds every node that has started, by its run's id; what ran for an item of a map, or in a round of a loop,
    is forgotten when that has ended, and only ``counts``, by node, tells of it. ``waits`` are the open waits;
    ``signals`` are those that no wait has taken. ``homes`` names, by pool, the worker that ran the last step with an
    affinity. ``closing`` is how a session ends that was stopped from outside.
    ``paused_ms`` is when it was last paused or resumed; ``controls`` counts pauses and resumptions stored, ``ignored``
    duplicates and stale events. ``sequence`` is that of the last journal event folded; ``proposed`` is the end once it
    is proposed, ``ended`` once it is stored. ``usage`` is that of every attempt's LM calls together, ``length`` how
    many events were folded.
    """

    partition: int
    accepted: SessionAccepted
    accepted_ms: int
    now_ms: int
    sequence: int
    root: SequenceRun
    runs: dict[str, Run] = field(default_factory=dict)
    counts: dict[str, Counts] = field(default_factory=dict)
    waits: dict[str, StepRun] = field(default_factory=dict)
    signals: list[SignalReceived] = field(default_factory=list)
    homes: dict[str, str] = field(default_factory=dict)
    phase: Phase = "running"
    closing: EndStatus | None = None
    cancel_requested: bool = False
    cancel_reason: str = ""
    paused: bool = False
    paused_ms: int = 0
    controls: int = 0
    ignored: int = 0
    proposed: SessionEnded | None = None
    ended: SessionEnded | None = None
    ended_ms: int = 0
    usage: Usage | None = None
    length: int = 1

    @property
    def id(self) -> str:
        return self.accepted.session
