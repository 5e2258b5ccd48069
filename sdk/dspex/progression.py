"""How far a run is, as a fold of its events: what the command line draws and what a client can show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, assert_never

from dspex_bus.wire import (
    CancelRequested,
    ErrorInfo,
    Node,
    ParallelNode,
    Plan,
    Progress,
    SequenceNode,
    SessionAccepted,
    SessionEnded,
    StepCancelled,
    StepFailed,
    StepLost,
    StepSucceeded,
    StepTimedOut,
    StoredEvent,
    TaskNode,
    Usage,
)

StepStatus = Literal["pending", "running", "retrying", "succeeded", "failed", "timed_out", "cancelled", "lost"]


@dataclass
class StepProgress:
    """One node of the plan. ``duration_us`` is the handler's own time for a task, and for a parallel or a sequence
    the time from the first start to the last end of what is in it."""

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
            case SessionEnded():
                self.ended, self.ended_ms = event, stored.time_ms
                self._settle()
            case StepSucceeded() | StepFailed() | StepTimedOut() | StepCancelled() | StepLost():
                step = self.steps.get(stored.node)
                if step is not None:
                    _record(step, stored, event)
                    self._settle()
                return step
            case _:
                assert_never(event)
        return None

    def say(self, node: str, attempt: int, progress: Progress) -> None:
        """A worker's word that an attempt is running; ignored once the attempt is over."""
        step = self.steps.get(node)
        if step is None or step.attempt > attempt or (step.over and step.attempt == attempt):
            return
        step.status, step.attempt, step.worker = "running", attempt, progress.worker
        step.started_ms, step.note, step.fraction = progress.started_ms, progress.note, progress.fraction

    @property
    def done(self) -> int:
        return sum(step.over for step in self._tasks())

    @property
    def total(self) -> int:
        return sum(1 for _ in self._tasks())

    def _tasks(self) -> Iterator[StepProgress]:
        return (step for step in self.steps.values() if isinstance(step.node, TaskNode))

    def _settle(self) -> None:
        """A group is what its members are."""
        for step in reversed(self.steps.values()):
            if isinstance(step.node, SequenceNode | ParallelNode):
                _summarise(step, [self.steps[child.id] for child in step.node.children], self.ended is not None)


def walk(node: Node, depth: int = -1) -> Iterator[tuple[Node, int]]:
    """The nodes below a plan's root, parents first, with their depth."""
    if depth >= 0:
        yield node, depth
    if isinstance(node, SequenceNode | ParallelNode):
        for child in node.children:
            yield from walk(child, depth + 1)


def _record(
    step: StepProgress,
    stored: StoredEvent,
    event: StepSucceeded | StepFailed | StepTimedOut | StepCancelled | StepLost,
) -> None:
    step.attempt, step.note, step.fraction = stored.attempt, "", None
    match event:
        case StepSucceeded():
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
    if isinstance(event, StepSucceeded | StepFailed | StepTimedOut):
        step.worker, step.started_ms, step.duration_us = event.worker, event.started_ms, event.duration_us


def _summarise(group: StepProgress, members: list[StepProgress], ended: bool) -> None:
    started = [member.started_ms for member in members if member.started_ms]
    if not started:
        return
    group.started_ms = min(started)
    finish = max(member.started_ms * 1000 + member.duration_us for member in members if member.started_ms)
    group.duration_us = finish - group.started_ms * 1000
    if all(member.over for member in members) or ended:
        bad = [member for member in members if member.status not in ("succeeded", "pending")]
        collected = isinstance(group.node, ParallelNode) and group.node.on_error == "collect"
        group.status = "succeeded" if collected or not bad else bad[0].status
    else:
        group.status = "running"
