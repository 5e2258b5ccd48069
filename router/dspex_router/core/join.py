"""Branches side by side: joined when all have ended, results in the order written, every branch's outcome kept.

running ──branch ended, others open──> running; with ``on_error: fail`` the first failure abandons the others
running ──last branch ended──────────> succeeded, failed, or cancelled
"""

from __future__ import annotations

from typing import Any

import msgspec

from dspex_bus.wire import ErrorInfo

from .errors import located
from .state import ParallelRun, Run, Session


def child_ended(session: Session, run: ParallelRun, child: Run) -> bool:
    """Whether the branch's failure is the one that abandons the others."""
    run.missing -= 1
    failed = child.status != "succeeded"
    first = failed and run.failed is None
    if first:
        run.failed = child
    if run.missing == 0:
        _join(session, run)
    return first and run.node.on_error == "fail"


def _join(session: Session, run: ParallelRun) -> None:
    run.ended_ms = session.now_ms
    failed = run.failed
    if failed is not None and (run.abandoned or run.node.on_error == "fail"):
        run.status = "cancelled" if failed.status == "cancelled" else "failed"
        run.error = failed.error
    elif run.node.save_as is not None:
        run.status = "succeeded"
        run.written = {run.node.save_as: [_result(child) for child in run.children]}
    else:
        _merge(run)


def _result(child: Run) -> dict[str, Any]:
    result = {"branch": child.node.name, "status": child.status}
    if child.status == "succeeded":
        return {**result, "outputs": child.written}
    return {**result, "error": msgspec.to_builtins(child.error)}


def _merge(run: ParallelRun) -> None:
    """All branches' fields, or ``output_conflict`` where two wrote the same one: neither is the right one."""
    merged: dict[str, Any] = {}
    writer: dict[str, str] = {}
    for child in run.children:
        for name, value in child.written.items():
            if name in merged:
                run.status, run.error = "failed", _conflict(run, name, writer[name], child.node.name)
                return
            merged[name], writer[name] = value, child.node.name
    run.status, run.written = "succeeded", merged


def _conflict(run: ParallelRun, field: str, first: str, second: str) -> ErrorInfo:
    error = ErrorInfo(
        code="output_conflict",
        message=f"the branches {first!r} and {second!r} of {run.node.name!r} both wrote {field!r}: rename one of them"
        " under 'outputs', or give the parallel step a 'save_as'",
        details={"field": field, "branches": [first, second]},
    )
    return located(error, run.node)
