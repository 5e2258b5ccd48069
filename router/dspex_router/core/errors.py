"""Errors of a run, as data: they say which step they come from."""

from __future__ import annotations

from typing import Any

import msgspec

from dspex_bus.wire import ErrorInfo

from .state import Run


def located(error: ErrorInfo, run: Run) -> ErrorInfo:
    return msgspec.structs.replace(error, details={**error.details, "step": run.node.name, "node": run.id})


def failure(run: Run, code: str, message: str, **details: Any) -> ErrorInfo:
    return located(ErrorInfo(code=code, message=message, details=details), run)


def cancelled(reason: str, run: Run) -> ErrorInfo:
    return failure(run, "cancelled", f"step {run.node.name!r} was abandoned: {reason or 'no reason given'}")
