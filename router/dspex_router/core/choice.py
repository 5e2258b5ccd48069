"""Steps that depend on a condition: a branch, which takes one way, and a loop, which goes round until it need not.

branch: running ──its body ended───────────────────────> as the body
        (no case holds, and there is no other way) ────> succeeded, having written nothing
loop:   running ──round succeeded, not until, more─────> running, the next round
        running ──round succeeded, until or the last───> succeeded
        running ──round failed─────────────────────────> failed (cancelled, if the round was)
either: (the condition cannot be evaluated) ───────────> failed
"""

from __future__ import annotations

from dspex_bus.conditions import ConditionError, holds
from dspex_bus.context import MISSING
from dspex_bus.wire import SequenceNode

from .errors import failure
from .sequence import end_like
from .state import BranchRun, LoopRun, Run, Session


def choose(session: Session, run: BranchRun) -> tuple[int, SequenceNode] | None:
    """The place and the body of the way to take; None where the run has ended instead."""
    node = run.node
    try:
        for place, case in enumerate(node.cases):
            if _holds(run, case.when):
                return place, case.body
    except ConditionError as error:
        _fail(session, run, error)
        return None
    if node.otherwise is not None:
        return len(node.cases), node.otherwise
    run.status, run.ended_ms = "succeeded", session.now_ms
    return None


def body_ended(session: Session, run: BranchRun, child: Run) -> None:
    if child.status != "succeeded":
        end_like(session, run, child)
        return
    run.status, run.ended_ms, run.written = "succeeded", session.now_ms, child.written


def round_ended(session: Session, run: LoopRun, child: Run) -> bool:
    """Whether there is another round to start, number ``run.round``."""
    if child.status != "succeeded":
        end_like(session, run, child)
        return False
    run.context.fields.update(child.written)
    try:
        over = _holds(run, run.node.until) or run.round + 1 >= run.node.at_most
    except ConditionError as error:
        _fail(session, run, error)
        return False
    if over:
        run.status, run.ended_ms, run.written = "succeeded", session.now_ms, run.context.fields
    elif run.abandoned:
        end_like(session, run, child)
    else:
        run.round += 1
        return True
    return False


def _holds(run: BranchRun | LoopRun, condition: str) -> bool:
    return holds(condition, run.context.get, MISSING)


def _fail(session: Session, run: BranchRun | LoopRun, error: ConditionError) -> None:
    message = f"step {run.node.name!r}: {error}"
    run.status, run.ended_ms = "failed", session.now_ms
    run.error = failure(run, "condition_failed", message)
