"""Steps in order: what one writes, the next can read. The first that does not succeed ends the sequence.

running ──step succeeded, more──────────────> running, at the next step
running ──last step succeeded───────────────> succeeded
running ──step failed───────────────────────> failed (cancelled, if the step was)
running, abandoned ──step succeeded, more───> cancelled
"""

from __future__ import annotations

from dspex_bus.wire import Node

from .errors import cancelled
from .state import Run, SequenceRun, Session


def child_ended(session: Session, run: SequenceRun, child: Run) -> Node | None:
    """The step to start next; None where the sequence has ended."""
    last = run.position + 1 == len(run.node.children)
    if child.status == "succeeded":
        run.context.fields.update(child.written)
        if not last and not run.abandoned:
            run.position += 1
            return run.node.children[run.position]
    run.ended_ms = session.now_ms
    if child.status == "succeeded" and last:
        run.status = "succeeded"
        run.written = run.context.fields
    elif child.status in ("succeeded", "cancelled"):
        run.status = "cancelled"
        run.error = child.error or cancelled(run.abandoned, run.node)
    else:
        run.status = "failed"
        run.error = child.error
    return None
