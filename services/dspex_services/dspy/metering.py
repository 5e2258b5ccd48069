"""What one request's LM calls cost, and an end to them when nobody waits for the request any more."""

from __future__ import annotations

import threading
from typing import Any

import dspy
from dspy.utils.usage_tracker import UsageTracker

from dspex_bus.wire import Usage


class Stopped(BaseException):
    """Raised in a module's thread at its next LM call after its step has ended. No module catches it."""


class Meter(dspy.utils.callback.BaseCallback):  # type: ignore[misc]
    """Counts LM calls, and keeps the last failure."""

    def __init__(self, model: str) -> None:
        self.failure: BaseException | None = None
        self.calls = 0
        self._model = model
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let the request's thread, if it still runs, make no further call."""
        self._stopped.set()

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        if self._stopped.is_set():
            raise Stopped

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        self.calls += 1

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        if exception is not None:
            self.failure = exception

    def usage(self, counted: dict[str, dict[str, Any]]) -> Usage | None:
        """``counted`` is what DSPy's usage tracker has by model."""
        if not self.calls:
            return None
        return Usage(
            calls=self.calls,
            input_tokens=sum(int(entry.get("prompt_tokens") or 0) for entry in counted.values()),
            output_tokens=sum(int(entry.get("completion_tokens") or 0) for entry in counted.values()),
            model=self._model,
        )


class SharedTracker(UsageTracker):  # type: ignore[misc]
    """DSPy copies a request's tracker for each of its threads and drops the copies; this one counts for all."""

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedTracker:
        return self
