"""A session as bytes can keep it: what a journal folds to, without what can be had from its plan and its start.

Runs are in the order started, so parents come before what is below them. A run's place gives its node and its parent;
what a step wrote is in its outcome, and what a sequence did in its steps.
"""

from __future__ import annotations

from typing import Any, assert_never

from msgspec import Struct, field

from dspex_bus.context import Context
from dspex_bus.wire import (
    EndStatus,
    ErrorInfo,
    SessionAccepted,
    SessionEnded,
    SignalReceived,
    StepOutcome,
    StepSucceeded,
    Usage,
    members,
)

from . import sequence, step
from .events import Recorded
from .session import fresh
from .state import (
    BranchRun,
    Counts,
    JoinRun,
    LoopRun,
    MapRun,
    ParallelRun,
    Phase,
    Result,
    Run,
    RunStatus,
    SequenceRun,
    Session,
    Settled,
    StepRun,
)
from .tree import made

_SAME = (
    "counts",
    "signals",
    "homes",
    "phase",
    "closing",
    "cancel_requested",
    "cancel_reason",
    "paused",
    "paused_ms",
    "controls",
    "ignored",
    "proposed",
    "ended",
    "ended_ms",
    "usage",
    "length",
    "now_ms",
    "sequence",
)
_OF_A_RUN = ("started_ms", "status", "ended_ms", "abandoned", "error")
_OF_A_STEP = ("attempt", "due_ms", "held", "outcome", "taken")
_OF_A_JOIN = ("ended", "succeeded", "winner", "settled")


class SavedRun(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``at`` is the place a sequence is at, a loop's round, how many of a map's items have been started. ``failed`` is
    the place of a join's first failure. ``fields`` are a loop's own, or those that a join wrote."""

    id: str
    started_ms: int
    status: RunStatus = "running"
    ended_ms: int = 0
    abandoned: str = ""
    error: ErrorInfo | None = None
    attempt: int = 1
    due_ms: int = 0
    held: bool = False
    outcome: StepOutcome | None = None
    taken: SignalReceived | None = None
    at: int = 0
    fields: dict[str, Any] = field(default_factory=dict)
    results: list[Result | None] = field(default_factory=list)
    ended: int = 0
    succeeded: int = 0
    winner: int | None = None
    failed: int | None = None
    settled: Settled = ""


class Saved(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The fields are those of a Session. ``waits`` are the open waits' runs, the oldest first."""

    root: SavedRun
    runs: list[SavedRun]
    waits: list[str]
    counts: dict[str, Counts]
    signals: list[SignalReceived]
    homes: dict[str, str]
    phase: Phase
    now_ms: int
    sequence: int
    length: int
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


def save(state: Session) -> Saved:
    return Saved(
        root=_saved(state.root),
        runs=[_saved(run) for run in state.runs.values()],
        waits=list(state.waits),
        **{name: getattr(state, name) for name in _SAME},
    )


def restore(first: Recorded, saved: Saved) -> Session:
    """The session that was saved, which has ``saved`` for its own from here on; ``first`` is the event that started
    it."""
    assert isinstance(first.event, SessionAccepted)
    state = fresh(first, first.event)
    for name in _SAME:
        setattr(state, name, getattr(saved, name))
    grown: list[tuple[Run, SavedRun]] = [(state.root, saved.root)]
    grown += [(_grown(state, kept), kept) for kept in saved.runs]
    for run, kept in reversed(grown):
        _fill(state, run, kept)
    for run, _ in grown:
        if isinstance(run, MapRun) and run.open:
            _share_out(run)
    state.waits = {id: run for id in saved.waits if isinstance(run := state.runs[id], StepRun)}
    return state


def _saved(run: Run) -> SavedRun:
    values = {name: getattr(run, name) for name in _OF_A_RUN}
    match run:
        case StepRun():
            values |= {name: getattr(run, name) for name in _OF_A_STEP}
        case SequenceRun():
            values["at"] = run.position
        case LoopRun():
            values |= {"at": run.round, "fields": run.context.fields}
        case MapRun():
            values |= {"at": run.following, "results": run.results, **_joined(run)}
        case ParallelRun():
            values |= _joined(run)
        case BranchRun():
            pass
        case _:
            assert_never(run)
    return SavedRun(id=run.id, **values)


def _joined(run: JoinRun) -> dict[str, Any]:
    failed = None if run.failed is None else [result is run.failed for result in run.results].index(True)
    return {"failed": failed, "fields": run.written, **{name: getattr(run, name) for name in _OF_A_JOIN}}


def _grown(state: Session, kept: SavedRun) -> Run:
    """A run as it is when it starts, in its place."""
    above, _, place = kept.id.rpartition("-")
    parent = state.runs[above] if above else state.root
    assert not isinstance(parent, StepRun)
    context, number = parent.context, int(place)
    if isinstance(parent, MapRun):
        context = Context({}, context, parent.node.hidden)
    node = members(parent.node)[0 if isinstance(parent, MapRun | LoopRun) else number]
    run = state.runs[kept.id] = made(node, kept.id, parent, context, kept.started_ms)
    return run


def _fill(state: Session, run: Run, kept: SavedRun) -> None:
    """What has become of a run, when all that is below it has been filled."""
    for name in _OF_A_RUN:
        setattr(run, name, getattr(kept, name))
    if run.id in state.accepted.kept and not isinstance(run, StepRun):
        run.written = state.accepted.kept[run.id]
        return
    match run:
        case StepRun():
            for name in _OF_A_STEP:
                setattr(run, name, getattr(kept, name))
            if run.status == "succeeded":
                run.written = step.written_by(run.node, _outputs(state, run))
        case SequenceRun():
            run.position = kept.at
            _follow(state, run)
        case LoopRun():
            run.round, run.child = kept.at, state.runs.get(f"{run.id}-{kept.at}")
            run.context.fields = kept.fields
        case BranchRun():
            run.child = next((child for child in _below(state, run, len(members(run.node))) if child), None)
            run.written = run.child.written if run.child and run.status == "succeeded" else {}
        case ParallelRun():
            below = _below(state, run, len(run.results))
            run.results = [_result(child) if child and not child.open else None for child in below]
            _join(run, kept, below)
        case MapRun():
            run.following, run.results = kept.at, kept.results
            _join(run, kept, _below(state, run, kept.at))
        case _:
            assert_never(run)
    if isinstance(run, SequenceRun | LoopRun) and run.status == "succeeded":
        run.written = run.context.fields


def _outputs(state: Session, run: StepRun) -> dict[str, Any]:
    return run.outcome.outputs if isinstance(run.outcome, StepSucceeded) else state.accepted.kept[run.id]


def _follow(state: Session, run: SequenceRun) -> None:
    """Do again in a sequence's context what its steps did."""
    above = sequence.above(run)
    for place in range(run.position + 1):
        run.child = state.runs.get(f"{above}{place}")
        if run.child is not None and run.child.status == "succeeded":
            run.context.fields.update(run.child.written)


def _below(state: Session, run: Run, count: int) -> list[Run | None]:
    return [state.runs.get(f"{run.id}-{place}") for place in range(count)]


def _result(run: Run) -> Result:
    return Result(run.node.name, run.status, run.written, run.error)


def _join(run: ParallelRun | MapRun, kept: SavedRun, below: list[Run | None]) -> None:
    for name in _OF_A_JOIN:
        setattr(run, name, getattr(kept, name))
    run.written = kept.fields
    run.branches = {place: child for place, child in enumerate(below) if child is not None and child.open}
    run.failed = None if kept.failed is None else run.results[kept.failed]


def _share_out(run: MapRun) -> None:
    """The items that run, each to its own: what they are taken from does not change meanwhile."""
    run.items = run.context.get(run.node.over)
    for place, child in run.branches.items():
        assert child.context.base is not None
        child.context.base.fields[run.node.item] = run.items[place]
