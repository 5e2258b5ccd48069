"""Steps in order: what one writes, the next can read. The first that does not succeed ends the sequence.

running ──step succeeded, more──────────────> running, at the next step
running ──last step succeeded───────────────> succeeded
running ──step failed───────────────────────> failed (cancelled, if the step was)
running, abandoned ──step succeeded, more───> cancelled
"""

from __future__ import annotations

from .errors import cancelled
from .state import BranchRun, LoopRun, Run, SequenceRun, Session


def above(run: SequenceRun) -> str:
    """What the ids of its steps begin with; their positions follow."""
    return "" if run.parent is None else f"{run.id}-"


def child_ended(session: Session, run: SequenceRun, child: Run) -> bool:
    """Whether there is a next step to start, at ``run.position``."""
    last = run.position + 1 == len(run.node.children)
    if child.status == "succeeded":
        run.context.fields.update(child.written)
        if not last and not run.abandoned:
            run.position += 1
            return True
    if child.status == "succeeded" and last:
        run.written = run.context.fields
        run.status = "succeeded"
        run.ended_ms = session.now_ms
    else:
        end_like(session, run, child)
    return False


def end_like(session: Session, run: SequenceRun | BranchRun | LoopRun, child: Run) -> None:
    """End a run by a child that did not succeed, or that succeeded when nobody wanted the rest any more."""
    run.ended_ms = session.now_ms
    if child.status in ("succeeded", "cancelled"):
        run.status = "cancelled"
        run.error = child.error or cancelled(run.abandoned, run)
    else:
        run.status = "failed"
        run.error = child.error
