"""The steps that travel with a task: run after it, one by one, as far as that goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec

from dspex_bus.context import Context, Lacking, gather, written
from dspex_bus.wire import Followed, Following, StepSucceeded, Task, alone

from ..handlers import Handler, Handlers, Step
from .attempt import Attempt

_SLICE_S = 0.005
"""Handlers that never wait leave the event loop to others after that long."""

_ENVELOPE = 160
"""Bytes of an outcome besides its outputs, or a little less."""


class _Call(NamedTuple):
    following: Following
    handler: Handler
    arguments: tuple[Any, ...]
    step: Step | None
    started: float


class Followers:
    """They share the attempt of the first, its deadline, and a message of at most about ``most_bytes`` that holds what
    came of them. The first that does not succeed, whatever the reason, is left out with all after it: the router sends
    it by itself, and what comes of it then is what counts. Where a cancel may have gone unheard since a time
    (``was_broken``) it is looked up whether they are still wanted."""

    def __init__(
        self,
        attempt: Attempt,
        handlers: Handlers,
        make_step: Callable[[Task, Attempt], Step],
        most_bytes: int,
        was_broken: Callable[[float, float], bool],
        is_wanted: Callable[[Task], Awaitable[bool]],
    ) -> None:
        self._attempt = attempt
        self._task = attempt.task
        self._handlers = handlers
        self._make_step = make_step
        self._room = most_bytes
        self._following = iter(attempt.task.then)
        self._context = Context(attempt.task.context)
        self._done: list[Followed] = []
        self._over = False
        self._was_broken = was_broken
        self._is_wanted = is_wanted

    async def run(self, first: StepSucceeded) -> StepSucceeded:
        """The outcome of the first, with theirs."""
        self._first = first
        self._room -= len(msgspec.json.encode(first.outputs))
        self._write(first.outputs, self._task)
        self._zero, self._zero_ms = time.monotonic(), self._attempt.clock.now_ms()
        self._ends_at = self._zero + self._attempt.clock.left_ms(self._task.deadline_ms) / 1000
        self._looked = self._attempt.began
        self._attempt.so_far = self.so_far
        try:
            await self._attempt.also(self._all)
        finally:
            self._over = True
        return self.so_far()

    def so_far(self) -> StepSucceeded:
        return msgspec.structs.replace(self._first, then=tuple(self._done))

    async def _all(self) -> None:
        call, yielded = self._next(), self._zero
        while call is not None:
            if self._was_broken(self._looked, call.started):
                if not await self._is_wanted(self._task):
                    return
                self._looked = time.monotonic()
            if not call.handler.asynchronous:
                call = await self._attempt.in_thread(self._blocking, call)
                continue
            self._ended(call, await call.handler.function(*call.arguments))
            call = self._next()
            if call is not None and call.started - yielded > _SLICE_S:
                await asyncio.sleep(0)
                yielded = call.started

    def _blocking(self, call: _Call | None) -> _Call | None:
        """Those that block and follow each other, in one thread; the next that does not block."""
        while call is not None and not call.handler.asynchronous:
            if self._was_broken(self._looked, call.started):
                return call
            self._ended(call, call.handler.function(*call.arguments))
            call = self._next()
        return call

    def _next(self) -> _Call | None:
        """None where there is no other, or none that could be run here and now."""
        following = next(self._following, None)
        started = time.monotonic()
        if following is None or self._over or self._room < 0 or started >= self._ends_at:
            return None
        handler = self._handlers.find(following.handler)
        inputs = gather(self._context, following.reads, following.optional, reads_all=following.reads_all)
        if handler is None or isinstance(inputs, Lacking):
            return None
        inputs = msgspec.to_builtins(inputs)  # what a handler does to its input is nobody else's business
        step = self._step(following, inputs) if handler.takes_step else None
        arguments = handler.arguments(inputs, following.options, step)
        self._attempt.turn_to(following.node, min(started + following.timeout_ms / 1000, self._ends_at))
        return _Call(following, handler, arguments, step, started)

    def _ended(self, call: _Call, returned: Any) -> None:
        outputs, encoded = call.handler.outputs(returned)
        self._room -= len(encoded) + _ENVELOPE
        if self._room < 0:
            return
        self._done.append(
            Followed(
                node=call.following.node,
                outputs=outputs,
                started_ms=int(self._zero_ms + (call.started - self._zero) * 1000),
                duration_us=int((time.monotonic() - call.started) * 1e6),
                usage=None if call.step is None else call.step.usage,
            )
        )
        self._write(outputs, call.following)

    def _write(self, outputs: dict[str, Any], by: Task | Following) -> None:
        self._context.fields.update(written(outputs, by.writes, by.save_as))

    def _step(self, following: Following, inputs: dict[str, Any]) -> Step:
        task = msgspec.structs.replace(
            alone(self._task),
            node=following.node,
            attempt=1,
            handler=following.handler,
            options=following.options,
            inputs=inputs,
            timeout_ms=following.timeout_ms,
            stream=False,
        )
        return self._make_step(task, self._attempt)
