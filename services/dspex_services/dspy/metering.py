"""What one request's LM calls cost, and an end to them when nobody waits for the request any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
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

    @property
    def limited(self) -> bool:
        return self._step.limited

    @asynccontextmanager
    async def reserve(self, config: LMConfig, expected: Callable[[], Usage]) -> AsyncIterator[None]:
        """Around a call, on any event loop. Raises Halted where the step's budget is spent."""
        reserved = self._step.reserve(expected, model=config.model, priced=config.price is not None)
        try:
            await self._enter(reserved)
        except DspexError as error:
            raise Halted(error) from error
        try:
            yield
        finally:
            self._leave(reserved)

    async def _enter(self, reserved: AbstractAsyncContextManager[None]) -> None:
        if asyncio.get_running_loop() is self._home:
            await self._entered(reserved)
            return
        entering = asyncio.run_coroutine_threadsafe(self._entered(reserved), self._home)
        try:
            await asyncio.wrap_future(entering)
        except asyncio.CancelledError:
            entering.add_done_callback(partial(self._given_up, reserved))
            raise

    def _given_up(self, reserved: AbstractAsyncContextManager[None], entering: Future[None]) -> None:
        """What was reserved all the same, as its caller gave up."""
        if not entering.cancelled() and entering.exception() is None:
            self._leave(reserved)

    def _leave(self, reserved: AbstractAsyncContextManager[None]) -> None:
        """Soon, whatever becomes of the caller."""
        asyncio.run_coroutine_threadsafe(_left(reserved), self._home)

    async def _entered(self, reserved: AbstractAsyncContextManager[None]) -> None:
        await reserved.__aenter__()

    def pay(self, reply: LMReply) -> None:
        """What the engine says of a call. From any thread."""
        said = usage_of(reply, self._model)
        self._count(said)
        if _running_loop() is self._home:
            self._record(said)
        else:
            self._home.call_soon_threadsafe(self._record, said)

    def _count(self, said: Usage) -> None:
        """At once, from any thread."""

    def _record(self, said: Usage) -> None:
        self._step.record_usage(said)


async def _left(reserved: AbstractAsyncContextManager[None]) -> None:
    await reserved.__aexit__(None, None, None)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


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
