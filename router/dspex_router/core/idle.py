"""When a session may be forgotten for a while: nothing of it runs, and nothing is to be done before some time."""

from __future__ import annotations

from dspex_bus.wire import PipelineNode, TaskNode

from . import child, join, step
from .commands import Command, SetTimer, TellChild
from .state import MapRun, ParallelRun, Run, Session, StepRun


def wakes_at(state: Session) -> int | None:
    """When the next timer of an idle session is due (its deadline at the latest); None where it is not idle.

    Idle is a session of which only waits, sleeps, delays before retries, what is held by a pause, and children are
    open. One that has been paused has to see to it that its children know.
    """
    if state.phase != "running":
        return None
    earliest = state.accepted.deadline_ms
    for run in state.runs.values():
        if not run.open or (_is_child(run) and not state.paused_ms):
            continue
        if _is_sent(run):
            return None
        for command in _opening(state, run):
            if not isinstance(command, SetTimer):
                return None
            earliest = min(earliest, command.at_ms)
    return earliest


def children(state: Session) -> list[str]:
    """The sessions that it has started and waits for."""
    return [
        child.session_id(state, run)
        for run in state.runs.values()
        if run.open and isinstance(run, StepRun) and _is_child(run)
    ]


def unwanted(state: Session) -> list[Command]:
    """Children that are not needed any more are told so by whoever gives them up. Where that was decided by what came
    while their parent was in nobody's memory, it is done by whoever has it next."""
    return [
        TellChild(child.session_id(state, run), "cancel")
        for run in state.runs.values()
        if run.open and isinstance(run, StepRun) and isinstance(run.node, PipelineNode) and run.abandoned
    ]


def let_go(state: Session) -> None:
    """Cut what leads in a circle. It would stay until all garbage is collected, and a router that idles makes none."""
    for run in state.runs.values():
        run.parent = None


def _is_child(run: Run) -> bool:
    return _is_sent(run) and isinstance(run.node, PipelineNode) and isinstance(run, StepRun) and not run.abandoned


def _is_sent(run: Run) -> bool:
    """What a worker or a child session has in hand; told first, since to open it again would cost something."""
    return (
        isinstance(run, StepRun)
        and isinstance(run.node, TaskNode | PipelineNode)
        and run.status == "running"
        and not run.held
    )


def _opening(state: Session, run: Run) -> list[Command]:
    if isinstance(run, StepRun):
        return step.opening(state, run)
    if isinstance(run, ParallelRun | MapRun) and not run.settled:
        return join.deadline(run)
    return []
