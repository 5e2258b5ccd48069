"""The machines of a plan's nodes, put together: starting goes down the tree, ends go up, abandoning goes down."""

from __future__ import annotations

from typing import assert_never

from dspex_bus.wire import Node, ParallelNode, SequenceNode, TaskNode

from . import join, sequence, task
from .commands import Command
from .context import Context
from .state import ParallelRun, Run, SequenceRun, Session, TaskRun

SIBLING_FAILED = "sibling_failed"
"""Why the other branches of a failed parallel step are abandoned."""


def start(
    session: Session, node: Node, parent: SequenceRun | ParallelRun | None, context: Context, commands: list[Command]
) -> Run:
    """Start a node. Nothing ends by it: even a step that lacks a field ends only once that is recorded."""
    run: Run
    match node:
        case TaskNode():
            run = TaskRun(node=node, parent=parent, context=context, started_ms=session.now_ms)
            commands.append(task.opening(session, run))
        case SequenceNode():
            run = SequenceRun(node=node, parent=parent, context=Context(base=context), started_ms=session.now_ms)
            run.child = start(session, node.children[0], run, run.context, commands)
        case ParallelNode():
            run = ParallelRun(node=node, parent=parent, context=context, started_ms=session.now_ms)
            run.missing = len(node.children)
            run.children = [start(session, child, run, context, commands) for child in node.children]
        case _:
            assert_never(node)
    session.runs[node.id] = run
    return run


def propagate(session: Session, ended: list[Run], commands: list[Command]) -> None:
    """Tell the parents of ``ended`` runs, and theirs, until nothing more ends."""
    for run in ended:  # grows meanwhile: in the order things ended
        parent = run.parent
        if parent is None:
            return
        if isinstance(parent, SequenceRun):
            following = sequence.child_ended(session, parent, run)
            if following is not None:
                parent.child = start(session, following, parent, parent.context, commands)
        elif join.child_ended(session, parent, run):
            for sibling in parent.children:
                ended += abandon(session, sibling, SIBLING_FAILED, commands)
        if not parent.open:
            ended.append(parent)


def abandon(session: Session, run: Run, reason: str, commands: list[Command]) -> list[Run]:
    """Give up a run and all below it. The runs that ended by it are returned, for :func:`propagate`; the others end
    when their attempts' slots are filled."""
    if not run.open or run.abandoned:
        return []
    if isinstance(run, TaskRun):
        commands += task.abandon(session, run, reason)
        return [] if run.open else [run]
    run.abandoned = reason
    below = run.children if isinstance(run, ParallelRun) else [run.current]
    return [ended for child in below for ended in abandon(session, child, reason, commands)]
