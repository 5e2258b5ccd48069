"""An agent's tools: handlers anywhere on the bus, called as the model asks.

What goes wrong becomes an observation that the model reads; it does not end the step. A call has the step's time left
as its deadline and belongs to the step's session: cancelling the session abandons it, wherever it runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import dspy

from dspex_bus import subjects
from dspex_bus.claim import Claims
from dspex_bus.errors import DspexError
from dspex_bus.wire import (
    CallReply,
    CallRequest,
    ErrorInfo,
    HandlerInfo,
    StepCancelled,
    StepFailed,
    StepSucceeded,
    StepTimedOut,
    Task,
    decode,
    decode_outcome,
    encode,
)

from ..errors import InvalidInput, StepError
from ..handlers import Step
from .discovery import Directory, arguments
from .options import ToolOptions

_TOOL_TIMEOUT_S = 30.0
_ALL = ".*"


async def bus_tools(wanted: Sequence[str | ToolOptions], step: Step, directory: Directory) -> list[BusTool]:
    """The tools, each described by its handler unless the step describes it itself. Raises StepError for a handler
    that no live worker offers and the step does not describe."""
    tools = []
    for options in [option for one in wanted for option in await _named(one, step, directory)]:
        found = await directory.find(step.bus, options.handler)
        if found is None and not options.args:
            raise StepError(
                f"the tool {options.handler!r} is offered by no live worker", code="unknown_tool", retryable=True
            )
        tools.append(BusTool(options, step, found))
    _check_names(tools)
    return tools


def _check_names(tools: Sequence[BusTool]) -> None:
    """DSPy keeps the last of several tools of one name, without a word. The same handler may be named twice."""
    handlers: dict[str, str] = {}
    for tool in tools:
        if (other := handlers.setdefault(tool.name, tool.handler)) != tool.handler:
            raise InvalidInput(
                f"{other!r} and {tool.handler!r} would both be the tool {tool.name!r}: give one a name of its own, "
                f"as in {{handler: {tool.handler}, name: …}}",
                details={"tool": tool.name},
            )


async def _named(one: str | ToolOptions, step: Step, directory: Directory) -> list[ToolOptions]:
    """What one entry names: a handler, or all whose names begin like ``mcp.files.*``."""
    if not isinstance(one, str):
        return [one]
    if not one.endswith(_ALL):
        return [ToolOptions(handler=one)]
    names = await directory.under(step.bus, one.removesuffix("*"))
    if not names:
        raise StepError(f"no live worker offers a handler {one!r}", code="unknown_tool", retryable=True)
    return [ToolOptions(handler=name) for name in names]


class BusTool:
    """A handler as a tool. ``for_loop`` is for modules that run on the event loop, ``for_thread`` for the others."""

    def __init__(self, options: ToolOptions, step: Step, found: tuple[HandlerInfo, str] | None) -> None:
        self._options = options
        self._step = step
        self._pool = found[1] if found is not None else None
        self._loop = asyncio.get_running_loop()
        info = found[0] if found is not None else None
        self.handler = options.handler
        self.name = (options.name or options.handler).replace(".", "_").replace("-", "_")
        self._description = options.description or (info.summary if info else "") or f"Calls {options.handler}."
        self._args = options.args or (arguments(info, options.with_) if info else {})

    def for_loop(self) -> Any:
        async def use(**given: Any) -> Any:
            return await self._use(given)

        return self._tool(use)

    def for_thread(self) -> Any:
        def use(**given: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(self._use(given), self._loop).result()

        return self._tool(use)

    def _tool(self, use: Callable[..., Any]) -> Any:
        types = {name: _python_type(schema) for name, schema in self._args.items()}
        use.__name__ = self.name
        return _Tool(use, name=self.name, desc=self._description, args=self._args, arg_types=types)

    async def _use(self, given: dict[str, Any]) -> Any:
        left_s = min(_TOOL_TIMEOUT_S, self._step.remaining_s)
        if left_s <= 0:
            raise StepError("the step has no time left for another tool", code="deadline_exceeded")
        if self._pool is not None:
            return await self._direct(self._pool, given, left_s)
        return await self._routed(given, left_s)

    async def _direct(self, pool: str, given: dict[str, Any], left_s: float) -> Any:
        """To the handler's pool, as part of the step's own session."""
        timeout_ms = int(left_s * 1000)
        task = Task(
            session=self._step.session,
            node=self._step.node,
            attempt=self._step.attempt,
            partition=0,
            handler=self._options.handler,
            options=self._options.with_,
            inputs=given,
            timeout_ms=timeout_ms,
            deadline_ms=int(time.time() * 1000) + timeout_ms,
            budget=self._step.budget,
            used=self._step.spent,
            tenant=self._step.tenant,
        )
        subject = subjects.now(pool, self._options.handler)
        answer = await Claims(self._step.bus).request(subject, encode(task), timeout_s=left_s + 1)
        outcome = decode_outcome(answer.data, subject=subject)
        if isinstance(outcome, StepSucceeded | StepFailed | StepTimedOut):
            self._step.count_usage(outcome.usage)
        if isinstance(outcome, StepSucceeded):
            return outcome.outputs
        if isinstance(outcome, StepCancelled):
            raise StepError(f"{self.name} was cancelled", code="cancelled")
        raise StepError(outcome.error.message, code=outcome.error.code, retryable=outcome.error.retryable)

    async def _routed(self, given: dict[str, Any], left_s: float) -> Any:
        """Through the execution router: an operation, such as ``predict``, that is no handler's own name."""
        request = CallRequest(
            with_=self._options.with_,
            inputs=given,
            timeout_s=left_s,
            budget=self._step.budget,
            used=self._step.spent,
            tenant=self._step.tenant,
        )
        subject = subjects.call(self._options.handler)
        answer = await Claims(self._step.bus).request(subject, encode(request), timeout_s=left_s + 1)
        if answer.headers and "Nats-Service-Error-Code" in answer.headers:
            error = decode(ErrorInfo, answer.data, subject=subject)
            raise StepError(error.message, code=error.code, retryable=error.retryable)
        reply = decode(CallReply, answer.data, subject=subject)
        self._step.count_usage(reply.usage)
        return reply.outputs


class _Tool(dspy.Tool):  # type: ignore[misc]
    """DSPy shows the model an error with its traceback: this worker's files, which help no model and are nobody's
    business at its provider."""

    def __call__(self, **given: Any) -> Any:
        try:
            return super().__call__(**given)
        except Exception as error:
            raise _failure(error) from None

    async def acall(self, **given: Any) -> Any:
        try:
            return await super().acall(**given)
        except Exception as error:
            raise _failure(error) from None


class ToolFailed(Exception):
    """What a tool says of its failure. It is told to have no traceback, whatever it has passed through."""

    @property
    def __traceback__(self) -> None:  # type: ignore[override]
        return None


def _failure(error: Exception) -> ToolFailed:
    return ToolFailed(str(error) if isinstance(error, DspexError) else f"{type(error).__name__}: {error}")


def _python_type(schema: dict[str, Any]) -> Any:
    kinds = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list, "object": dict}
    return kinds.get(str(schema.get("type")), Any)
