"""The machines of a plan's nodes, put together: starting goes down the tree, ends go up, abandoning goes down."""

from __future__ import annotations

from typing import assert_never

from dspex_bus.context import MISSING, Context
from dspex_bus.wire import BranchNode, LoopNode, MapNode, Node, ParallelNode, SequenceNode, TaskNode

from . import choice, fusing, join, sequence, step
from .commands import Command
from .errors import failure
from .state import (
    OPEN,
    BranchRun,
    Counts,
    GroupRun,
    LoopRun,
    MapRun,
    ParallelRun,
    Result,
    Run,
    SequenceRun,
    Session,
    StepRun,
)

MOST_AT_ONCE = 50_000
"""What one event may begin. Loops and maps within each other, with nothing to do in them, could keep a router busy for
ever, and wide ones give it more to send than it can hold."""

_KEPT_AT_ONCE = 32
"""What may begin besides for each step that is kept: the groups around it."""


class Growth:
    """One event's doing in a session: what is to be commanded, and the runs that ended and whose parents are still to
    be told. An end can come with a start: a branch may have nothing to do, a list nothing in it."""

    __slots__ = ("_ended", "_left", "_session", "commands")

    def __init__(self, session: Session) -> None:
        self._session = session
        self.commands: list[Command] = []
        self._ended: list[Run] = []
        self._left = MOST_AT_ONCE + _KEPT_AT_ONCE * len(session.accepted.kept)

    def end(self, run: Run) -> None:
        """Take note of a run that has ended."""
        self._ended.append(run)

    def plant(self, root: SequenceRun) -> None:
        """Start a session's root, which is made before it: it is the session's own."""
        self._begin(root)

    def start(self, node: Node, id: str, parent: GroupRun | None, context: Context) -> Run:
        run = made(node, id, parent, context, self._session.now_ms)
        self._session.runs[id] = run
        if id != node.id:
            self._session.counts.setdefault(node.id, Counts()).started += 1
        self._left -= 1
        kept = self._session.accepted.kept
        if kept and id in kept and not isinstance(run, StepRun):
            run.status, run.ended_ms, run.written = "succeeded", self._session.now_ms, kept[id]
        elif self._left >= 0:
            self._begin(run)
        else:
            self._refuse(run)
        if run.status not in OPEN:
            self.end(run)
        return run

    def _begin(self, run: Run) -> None:
        match run:
            case StepRun():
                self.commands += step.begin(self._session, run)
            case SequenceRun():
                self._step(run)
            case ParallelRun():
                self._branches(run)
            case MapRun():
                self._items(run)
            case BranchRun():
                self._way(run)
            case LoopRun():
                self._go_on(run)
            case _:
                assert_never(run)

    def _refuse(self, run: Run) -> None:
        message = f"step {run.node.name!r} is one too many: more than {MOST_AT_ONCE:,} would begin at once; give maps a"
        message += " lower 'limit', and loops something to do"
        run.status, run.ended_ms = "failed", self._session.now_ms
        run.error = failure(run, "too_much_at_once", message)

    def _step(self, run: SequenceRun) -> None:
        if run.ready:
            fusing.pass_over(self._session, run)
        id = f"{sequence.above(run)}{run.position}"
        run.child = self.start(run.node.children[run.position], id, run, run.context)

    def _branches(self, run: ParallelRun) -> None:
        self.commands += join.deadline(run)
        for place, child in enumerate(run.node.children):
            run.branches[place] = self.start(child, f"{run.id}-{place}", run, run.context)

    def _items(self, run: MapRun) -> None:
        items = run.context.get(run.node.over)
        if not isinstance(items, list):
            found = "is not there" if items is MISSING else f"is {type(items).__name__}, no list"
            message = f"step {run.node.name!r} goes through {run.node.over!r}, which {found}"
            run.status, run.ended_ms = "failed", self._session.now_ms
            run.error = failure(run, "missing_field" if items is MISSING else "invalid_input", message)
            return
        run.items, run.results = items, [None] * len(items)
        if not items or join.begin(run):
            join.close(self._session, run)
            return
        self.commands += join.deadline(run)
        for _ in range(min(run.node.limit, len(items))):
            self._item(run)

    def _item(self, run: MapRun) -> None:
        place = run.following
        run.following += 1
        context = Context({run.node.item: run.items[place]}, run.context, run.node.hidden)
        run.branches[place] = self.start(run.node.body, f"{run.id}-{place}", run, context)

    def _way(self, run: BranchRun) -> None:
        chosen = choice.choose(self._session, run)
        if chosen is not None:
            place, body = chosen
            run.child = self.start(body, f"{run.id}-{place}", run, run.context)

    def _go_on(self, run: LoopRun) -> None:
        """With the first round, or after those that another session made."""
        made = self._session.accepted.rounds.get(run.id)
        if made is not None:
            run.round = made.done
            run.context.fields.update(made.fields)
        self._round(run)

    def _round(self, run: LoopRun) -> None:
        run.child = self.start(run.node.body, f"{run.id}-{run.round}", run, run.context)

    def propagate(self) -> None:
        """Tell the parents of runs that have ended, and theirs, until nothing more ends."""
        for run in self._ended:  # grows meanwhile: in the order things ended
            self._count(run)
            parent = run.parent
            match parent:
                case None:
                    continue
                case SequenceRun():
                    if sequence.child_ended(self._session, parent, run):
                        self._step(parent)
                case ParallelRun() | MapRun():
                    self._joined(parent, run)
                case BranchRun():
                    choice.body_ended(self._session, parent, run)
                case LoopRun():
                    _forget(self._session, run.id)
                    if choice.round_ended(self._session, parent, run):
                        self._round(parent)
                case _:
                    assert_never(parent)
            if parent.status not in OPEN:
                self.end(parent)
        self._ended.clear()

    def _joined(self, run: ParallelRun | MapRun, child: Run) -> None:
        if join.child_ended(run, child):
            self.abandon_branches(run)
        if isinstance(run, MapRun):
            _forget(self._session, child.id)
            if not (run.settled or run.abandoned) and run.following < len(run.items):
                self._item(run)
        if join.is_over(run):
            join.close(self._session, run)

    def abandon_branches(self, run: ParallelRun | MapRun) -> None:
        """The join is settled: those of its branches that still run are not needed."""
        for branch in list(run.branches.values()):
            self.abandon(branch, join.ABANDONED[run.settled])

    def abandon(self, run: Run, reason: str) -> None:
        """Give up a run and all below it. What ends by it is told by :meth:`propagate`; the rest ends when its
        attempts' slots are filled."""
        if not run.open or run.abandoned:
            return
        if isinstance(run, StepRun):
            self.commands += step.abandon(self._session, run, reason)
            if run.status not in OPEN:
                self.end(run)
            return
        run.abandoned = reason
        below = list(run.branches.values()) if isinstance(run, ParallelRun | MapRun) else [run.child]
        for child in below:
            assert child is not None  # an open group has begun
            self.abandon(child, reason)

    def _count(self, run: Run) -> None:
        if run.id != run.node.id:
            counts = self._session.counts[run.node.id]
            if run.status == "succeeded":
                counts.succeeded += 1
            else:
                counts.failed += 1


def made(node: Node, id: str, parent: GroupRun | None, context: Context, started_ms: int) -> Run:
    """A run of ``node`` that has not begun."""
    match node:
        case TaskNode():
            return StepRun(id=id, node=node, parent=parent, context=context, started_ms=started_ms)
        case SequenceNode():
            return SequenceRun(id=id, node=node, parent=parent, context=Context(base=context), started_ms=started_ms)
        case ParallelNode():
            results: list[Result | None] = [None] * len(node.children)
            return ParallelRun(id=id, node=node, parent=parent, context=context, started_ms=started_ms, results=results)
        case MapNode():
            return MapRun(id=id, node=node, parent=parent, context=context, started_ms=started_ms, results=[], items=[])
        case BranchNode():
            return BranchRun(id=id, node=node, parent=parent, context=context, started_ms=started_ms)
        case LoopNode():
            return LoopRun(id=id, node=node, parent=parent, context=Context(base=context), started_ms=started_ms)
        case _:
            return StepRun(id=id, node=node, parent=parent, context=context, started_ms=started_ms)


def _forget(session: Session, id: str) -> None:
    """Drop a run that has ended and all that ran below it: an item's, or a round's. One that was refused has nothing
    below it."""
    run = session.runs.pop(id, None)
    match run:
        case SequenceRun():
            below = [f"{id}-{place}" for place in range(run.position + 1)]
        case ParallelRun():
            below = [f"{id}-{place}" for place in range(len(run.results))]
        case BranchRun(child=child) if child is not None:
            below = [child.id]
        case _:  # a map's items and a loop's rounds are forgotten already
            below = []
    for each in below:
        _forget(session, each)
