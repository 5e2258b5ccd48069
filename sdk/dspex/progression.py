"""How far a run is, as a fold of its events: what the command line draws and what a client can show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, assert_never

from dspex_bus.wire import (
    CancelRequested,
    ErrorInfo,
    MapNode,
    Node,
    ParallelNode,
    Plan,
    Progress,
    SessionAccepted,
    SessionEnded,
    SessionPaused,
    SessionResumed,
    SessionSnapshot,
    SignalReceived,
    StepCancelled,
    StepFailed,
    StepLost,
    StepNode,
    StepSucceeded,
    StepTimedOut,
    StoredEvent,
    TokenPiece,
    TokensEnded,
    TokensStarted,
    TokenStatus,
    Usage,
    find,
    members,
)

from ._feed import TokenEvent

StepStatus = Literal["pending", "running", "retrying", "succeeded", "failed", "timed_out", "cancelled", "lost"]


_MOST_SHOWN = 4000


@dataclass
class Writing:
    """The end of what a model has written of one field, in its call number ``call``."""

    call: int
    text: str = ""


@dataclass
class StepProgress:
    """One node of the plan. ``duration_us`` is the handler's own time for a task, and for a group the time from the
    first start to the last end of what is in it. Of a node under a map or a loop it is the last run that is told, and
    how many ``succeeded`` and ``failed``. ``writing`` is, by field, what a model writes while it runs."""

    node: Node
    depth: int
    status: StepStatus = "pending"
    worker: str = ""
    attempt: int = 0
    started_ms: int = 0
    duration_us: int = 0
    cached: bool = False
    note: str = ""
    fraction: float | None = None
    error: ErrorInfo | None = None
    usage: Usage | None = None
    outputs: dict[str, object] = field(default_factory=dict)
    succeeded: int = 0
    failed: int = 0
    writing: dict[str, Writing] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        return self.status not in ("pending", "running", "retrying")


class Progression:
    """Feed it a session's events in order with :meth:`fold`, and what workers say meanwhile with :meth:`say`."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self.session = ""
        self.accepted_ms = 0
        self.ended: SessionEnded | None = None
        self.ended_ms = 0
        self.cancel_requested = False
        self.paused = False
        self.signals: list[SignalReceived] = []
        self.steps: dict[str, StepProgress] = {}

    def fold(self, stored: StoredEvent) -> StepProgress | None:
        """The step the event was about, None where it was about the session."""
        event = stored.event
        match event:
            case SessionAccepted():
                self.plan, self.session, self.accepted_ms = event.plan, event.session, stored.time_ms
                self.steps = {node.id: StepProgress(node, depth) for node, depth in walk(event.plan.root)}
            case CancelRequested():
                self.cancel_requested = True
            case SessionPaused() | SessionResumed():
                self.paused = isinstance(event, SessionPaused)
            case SignalReceived():
                self.signals.append(event)
            case SessionEnded():
                self.ended, self.ended_ms = event, stored.time_ms
                self._settle()
            case StepSucceeded() | StepFailed() | StepTimedOut() | StepCancelled() | StepLost():
                step = self._step(stored.node)
                if step is not None and isinstance(step.node, StepNode):
                    _record(step, stored, event)
                    self._settle()
                return step
            case SessionSnapshot():
                pass
            case _:
                assert_never(event)
        return None

    def say(self, node: str, attempt: int, progress: Progress) -> None:
        """A worker's word that an attempt is running; ignored once the attempt is over."""
        step = self._step(node)
        if step is None or (not repeats(step) and (step.attempt > attempt or (step.over and step.attempt == attempt))):
            return
        step.status, step.attempt, step.worker = "running", attempt, progress.worker
        step.started_ms, step.note, step.fraction = progress.started_ms, progress.note, progress.fraction

    def tell(self, told: TokenEvent) -> StepProgress | None:
        """What an attempt says of its model's tokens; the step it is of."""
        step, inner = self.place(told.node)
        if step is None or (step.over and not repeats(step)):
            return step
        match told.message:
            case TokensStarted() | TokensEnded():
                step.writing.clear()
            case TokenStatus(text=text):
                step.note = text
            case TokenPiece() as piece:
                name = inner + field_name(piece)
                written = step.writing.get(name)
                if written is None or written.call != piece.call:
                    written = step.writing[name] = Writing(piece.call)
                written.text = (written.text + piece.text)[-_MOST_SHOWN:]
            case _:
                assert_never(told.message)
        return step

    @property
    def done(self) -> int:
        return sum(step.over for step in self._single())

    @property
    def total(self) -> int:
        """How many steps there are besides groups."""
        return sum(1 for _ in self._single())

    def _single(self) -> Iterator[StepProgress]:
        return (step for step in self.steps.values() if isinstance(step.node, StepNode))

    def place(self, run: str) -> tuple[StepProgress | None, str]:
        """The node that ran as ``run``; or, for a step of a pipeline that is a step here, that step, and what comes
        before the names of fields in it."""
        outer = run
        while self._step(outer) is None and "-" in outer:
            outer = outer.rpartition("-")[0]
        return self._step(outer), "" if outer == run else f"{run[len(outer) + 1 :]}."

    def _step(self, run: str) -> StepProgress | None:
        """The node that ran as ``run``."""
        node = None if self.plan is None else find(self.plan, run)
        return None if node is None else self.steps.get(node.id)

    def _settle(self) -> None:
        """A group is what its members are."""
        for step in reversed(self.steps.values()):
            below = [self.steps[child.id] for child in members(step.node)]
            if below:
                _summarise(step, below, self.ended is not None)


def walk(node: Node, depth: int = -1) -> Iterator[tuple[Node, int]]:
    """The nodes below a plan's root, parents first, with their depth."""
    if depth >= 0:
        yield node, depth
    for child in members(node):
        yield from walk(child, depth + 1)


def repeats(step: StepProgress) -> bool:
    """Whether the node is under a map or a loop, and may run more than once."""
    return "n" in step.node.id.split("-")


def field_name(piece: TokenPiece) -> str:
    """The field's name, with its predictor's where a module has several."""
    return f"{piece.predictor}.{piece.field}" if piece.predictor else piece.field


def _record(
    step: StepProgress,
    stored: StoredEvent,
    event: StepSucceeded | StepFailed | StepTimedOut | StepCancelled | StepLost,
) -> None:
    step.attempt, step.note, step.fraction = stored.attempt, "", None
    step.writing.clear()
    match event:
        case StepSucceeded():
            step.succeeded += 1
            step.status, step.error, step.cached = "succeeded", None, event.cached
            step.outputs, step.usage = event.outputs, event.usage
        case StepFailed():
            step.status, step.error, step.usage = "failed", event.error, event.usage
        case StepTimedOut():
            step.status, step.error = "timed_out", event.error
        case StepCancelled():
            step.status, step.note = "cancelled", event.reason
        case StepLost():
            step.status, step.error = "lost", event.error
    if not isinstance(event, StepSucceeded):
        step.failed += 1
    if isinstance(event, StepSucceeded | StepFailed | StepTimedOut):
        step.worker, step.started_ms, step.duration_us = event.worker, event.started_ms, event.duration_us


def _forgives(node: Node, below: list[StepProgress]) -> bool:
    """Whether a join may have succeeded although branches of it did not."""
    if not isinstance(node, ParallelNode | MapNode):
        return False
    if node.join.kind == "all":
        return node.join.on_error == "collect"
    return node.join.kind == "best_effort" or any(member.succeeded for member in below)


def _summarise(group: StepProgress, below: list[StepProgress], ended: bool) -> None:
    started = [member.started_ms for member in below if member.started_ms]
    if not started:
        return
    group.started_ms = min(started)
    finish = max(member.started_ms * 1000 + member.duration_us for member in below if member.started_ms)
    group.duration_us = finish - group.started_ms * 1000
    if all(member.over for member in below) or ended:
        bad = [member for member in below if member.status not in ("succeeded", "pending")]
        group.status = "succeeded" if not bad or _forgives(group.node, below) else bad[0].status
    else:
        group.status = "running"
