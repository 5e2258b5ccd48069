"""Steps that travel together: which go along with an attempt, and those of them that came back with its outcome."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from dspex_bus.context import MISSING, written
from dspex_bus.wire import Following, StepSucceeded, Task, TaskNode, succeeded

from . import budget, sequence
from .state import Counts, SequenceRun, Session, StepRun

Row = list[tuple[str, TaskNode]]
"""Steps in order, each with its run's id."""


def along(session: Session, run: StepRun, node: TaskNode) -> Row:
    """The steps that go along with the run's attempts. One whose outputs are kept from another session ends the row."""
    parent, row = run.parent, Row()
    if not isinstance(parent, SequenceRun):
        return row
    first, above, pool, kept = parent.position + 1, sequence.above(parent), node.pool, session.accepted.kept
    for place, sibling in enumerate(parent.node.children[first : first + node.fuse], first):
        id = f"{above}{place}"
        if not isinstance(sibling, TaskNode) or sibling.pool != pool or id in kept:
            break
        row.append((id, sibling))
    return row


def together(task: Task, run: StepRun, node: TaskNode, row: Row) -> Task:
    """The task of a row's first step, with the others."""
    return replace(task, writes=node.writes, save_as=node.save_as, context=_read_by(row, run), then=_following(row))


def _following(row: Row) -> tuple[Following, ...]:
    """The row as it travels."""
    return tuple(
        Following(
            node=id,
            handler=node.handler,
            options=node.options,
            reads=node.reads,
            optional=node.optional,
            reads_all=node.reads_all,
            writes=node.writes,
            save_as=node.save_as,
            timeout_ms=node.timeout_ms,
        )
        for id, node in row
    )


def _read_by(row: Row, run: StepRun) -> dict[str, Any]:
    """What is in the context now of what the row may read."""
    if any(node.reads_all for _, node in row):
        return run.context.whole()
    paths = {path: None for _, node in row for path in node.reads.values()}
    names = dict.fromkeys(path.partition(".")[0] for path in paths)
    values = {name: run.context.get(name) for name in names}
    return {name: value for name, value in values.items() if value is not MISSING}


def keep(session: Session, run: StepRun, node: TaskNode, outcome: StepSucceeded) -> None:
    """Have what came back at hand for the runs that are next. A worker is believed on the steps it was sent alone."""
    ready = []
    for (id, _), followed in zip(along(session, run, node), outcome.then, strict=False):
        if followed.node != id:
            break
        ready.append(succeeded(followed, outcome.worker))
        if followed.usage is not None:
            budget.count(session, ready[-1])
    if ready:
        assert isinstance(run.parent, SequenceRun)
        run.parent.ready = ready[::-1]


def pass_over(session: Session, run: SequenceRun) -> None:
    """Have all but the last of what came back behind us. It is what would happen to each, at a fraction of the cost."""
    now_ms, above, runs, ready = session.now_ms, sequence.above(run), session.runs, run.ready
    while len(ready) > 1:
        node, id, outcome = run.node.children[run.position], f"{above}{run.position}", ready.pop()
        assert isinstance(node, TaskNode)
        fields = written(outcome.outputs, node.writes, node.save_as)
        runs[id] = StepRun(
            id=id,
            node=node,
            parent=run,
            context=run.context,
            started_ms=now_ms,
            ended_ms=now_ms,
            status="succeeded",
            written=fields,
            outcome=outcome,
        )
        run.context.fields.update(fields)
        run.position += 1
        if id != node.id:
            counts = session.counts.setdefault(node.id, Counts())
            counts.started += 1
            counts.succeeded += 1


def take(run: StepRun) -> StepSucceeded | None:
    """The outcome that a run which begins has already."""
    parent = run.parent
    return parent.ready.pop() if isinstance(parent, SequenceRun) and parent.ready else None
