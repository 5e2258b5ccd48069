"""What one request's LM calls cost, and an end to them when nobody waits for the request any more."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import dspy

from dspex_bus.errors import DspexError
from dspex_bus.wire import Usage

from ..handlers import Step
from ..lm import LMConfig, LMReply


class Stopped(BaseException):
    """Raised in a module's thread at its next LM call after its step has ended. No module catches it."""


class Halted(BaseException):
    """Raised at an LM call that must not be made; ``error`` says why. No module catches it and tries another way."""

    def __init__(self, error: DspexError) -> None:
        self.error = error


class Meter(dspy.utils.callback.BaseCallback):  # type: ignore[misc]
    """Counts what LM calls cost, and keeps the last failure."""

    def __init__(self, model: str, step: Step) -> None:
        self.failure: BaseException | None = None
        self._model = model
        self._step = step
        self._home = asyncio.get_running_loop()
        self._usage: Usage | None = None
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let the request's thread, if it still runs, make no further call."""
        self._stopped.set()

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        if self._stopped.is_set():
            raise Stopped

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        if exception is not None:
            self.failure = exception

    async def admit(self, config: LMConfig) -> None:
        """Before a call, on any event loop. Raises Halted where the step's budget is spent."""
        asking = self._step.check_budget(model=config.model, priced=config.price is not None, more=self._usage)
        try:
            if asyncio.get_running_loop() is self._home:
                await asking
            else:
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asking, self._home))
        except DspexError as error:
            raise Halted(error) from error

    def count(self, reply: LMReply) -> None:
        """What the engine says of a call. From any thread."""
        said = usage_of(reply, self._model)
        with self._lock:
            self._usage = said if self._usage is None else self._usage.plus(said)

    def usage(self) -> Usage | None:
        """The whole of it; None where no model was asked."""
        return self._usage


def usage_of(reply: LMReply, model: str) -> Usage:
    """What one call used; nothing where the reply had been kept."""
    return Usage(
        calls=0 if reply.cached else 1,
        saved_calls=1 if reply.cached else 0,
        input_tokens=reply.usage.input_tokens,
        output_tokens=reply.usage.output_tokens,
        cached_tokens=reply.usage.cached_tokens,
        model=model,
        cost=reply.cost,
    )
