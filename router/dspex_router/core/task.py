"""A step that a worker runs: what it is sent."""

from __future__ import annotations

from typing import Any

from dspex_bus import context
from dspex_bus.subjects import thread_key
from dspex_bus.wire import ErrorInfo, PipelineNode, Task, TaskNode

from . import fusing
from .commands import Dispatch
from .errors import failure
from .state import Session, StepRun


def dispatch(session: Session, run: StepRun, node: TaskNode) -> Dispatch | ErrorInfo:
    """The current attempt as a task, or the error of a step that lacks a field."""
    inputs = gather(run, node, node.optional)
    if isinstance(inputs, ErrorInfo):
        return inputs
    task = Task(
        session=session.id,
        node=run.id,
        attempt=run.attempt,
        partition=session.partition,
        handler=node.handler,
        implementation=node.implementation,
        options=node.options,
        inputs=inputs,
        timeout_ms=node.timeout_ms,
        cache_ms=node.cache_ms,
        deadline_ms=session.accepted.deadline_ms,
        budget=session.accepted.budget,
        used=session.usage if session.accepted.budget else None,
        tenant=session.accepted.tenant,
        stream=node.stream or session.accepted.stream,
        watched=session.accepted.watched,
        thread=_thread(session) if node.remember else "",
        affinity=node.affinity,
        home=session.homes.get(node.pool, "") if node.affinity else "",
    )
    row = fusing.along(session, run, node) if node.fuse else ()
    return Dispatch(node.pool, fusing.together(task, run, node, row) if row else task, node.limits)


def _thread(session: Session) -> str:
    return thread_key(session.accepted.thread, session.accepted.tenant, session.id)


def gather(run: StepRun, node: TaskNode | PipelineNode, optional: tuple[str, ...] = ()) -> dict[str, Any] | ErrorInfo:
    """The fields of the context that a step reads."""
    inputs = context.gather(run.context, node.reads, optional, reads_all=node.reads_all)
    return inputs if isinstance(inputs, dict) else _missing_field(run, *inputs)


def _missing_field(run: StepRun, field: str, path: str) -> ErrorInfo:
    known = sorted(run.context.whole())
    source = "" if path == field else f" (from {path!r})"
    message = f"step {run.node.name!r} needs the field {field!r}{source}; there are: {', '.join(known) or 'none'}"
    return failure(run, "missing_field", message, field=field, path=path, known=known)
