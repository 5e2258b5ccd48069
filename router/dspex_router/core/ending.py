"""How a session ends, once its root has."""

from __future__ import annotations

from typing import Any

import msgspec

from dspex_bus.context import MISSING
from dspex_bus.wire import ErrorInfo, RunResult, SessionAccepted, SessionEnded

from . import child
from .commands import Finish
from .state import SequenceRun, Session


def end_of(session: Session) -> SessionEnded:
    """The end to propose. A session stopped from outside ends so, whatever its last attempts came to."""
    return msgspec.structs.replace(_end_of(session), usage=session.usage)


def _end_of(session: Session) -> SessionEnded:
    root = session.root
    if session.closing == "cancelled":
        return SessionEnded(status="cancelled", error=_cancelled(session))
    if session.closing == "timed_out":
        return SessionEnded(status="timed_out", error=_timed_out(session))
    if root.status == "succeeded":
        return _succeeded(session)
    return SessionEnded(status="cancelled" if root.status == "cancelled" else "failed", error=_named(root.error))


def finish(accepted: SessionAccepted, ended: SessionEnded, accepted_ms: int, ended_ms: int) -> Finish:
    """What follows from a stored end."""
    result = result_of(accepted.session, ended)
    report = None if accepted.parent is None else child.outcome(ended, accepted_ms, ended_ms)
    return Finish(result, accepted.reply, accepted.reply_content, accepted.parent, report)


def result_of(session: str, ended: SessionEnded) -> RunResult:
    return RunResult(session=session, status=ended.status, output=ended.output, error=ended.error, usage=ended.usage)


def _succeeded(session: Session) -> SessionEnded:
    root, names = session.root, session.accepted.plan.output
    if names is None:
        return SessionEnded(status="succeeded", output=_last(root))
    output: dict[str, Any] = {name: root.context.get(name) for name in names}
    missing = [name for name, value in output.items() if value is MISSING]
    if not missing:
        return SessionEnded(status="succeeded", output=output)
    known = sorted(root.context.whole())
    error = ErrorInfo(
        code="missing_field",
        message=f"the run's output {missing[0]!r} was written by no step; there are: {', '.join(known) or 'none'}",
        details={"field": missing[0], "known": known},
    )
    return SessionEnded(status="failed", error=error)


def _last(root: SequenceRun) -> dict[str, Any]:
    assert root.child is not None
    return root.child.written


def _cancelled(session: Session) -> ErrorInfo:
    reason = f": {session.cancel_reason}" if session.cancel_reason else ""
    return ErrorInfo(code="cancelled", message=f"the run was cancelled{reason}")


def _timed_out(session: Session) -> ErrorInfo:
    allowed = session.accepted.deadline_ms - session.accepted_ms
    return ErrorInfo(
        code="deadline_exceeded",
        message=f"the run did not end within {max(allowed, 0) / 1000:g} s",
        details={"deadline_ms": session.accepted.deadline_ms},
    )


def _named(error: ErrorInfo | None) -> ErrorInfo:
    assert error is not None
    details = error.details
    return msgspec.structs.replace(error, message=f"step {details['step']!r} ({details['node']}): {error.message}")
