"""Errors of a run, as data: they say which step they come from."""

from __future__ import annotations

import msgspec

from dspex_bus.wire import ErrorInfo, Node


def located(error: ErrorInfo, node: Node) -> ErrorInfo:
    return msgspec.structs.replace(error, details={**error.details, "step": node.name, "node": node.id})


def cancelled(reason: str, node: Node) -> ErrorInfo:
    error = ErrorInfo(code="cancelled", message=f"step {node.name!r} was abandoned: {reason or 'no reason given'}")
    return located(error, node)
