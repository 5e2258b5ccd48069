"""What a run can be told besides its pipeline and its input."""

from __future__ import annotations

from typing import TypedDict

from dspex_bus.wire import Budget, Priority


class RunOptions(TypedDict, total=False):
    """``priority``: which of its pools' queues the run's steps wait in. ``tenant``: who it is for. ``budget``: what its
    model calls may use. ``stream``: its steps say the model's tokens as they come. ``thread``: the conversation that it
    goes on with. Each stands in for what the pipeline says."""

    priority: Priority | None
    tenant: str
    budget: Budget | None
    stream: bool
    thread: str | None
