"""Asynchronous code for callers that block: each call runs on an event loop of its own thread, taken from a pool.

A loop in the caller's thread costs a third of handing the call to another thread's. Loops are kept with what belongs to
them (connections) and given to the next caller.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

_STALE_S = 1.0
_END = object()


class BlockingCalls:
    """``close(last)`` runs ``last`` on every loop before it is closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[tuple[asyncio.AbstractEventLoop, float]] = []
        self._last: Callable[[], Awaitable[None]] | None = None

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What the coroutine returns."""
        if _inside_a_loop():
            # Blocking code called by asynchronous code: it holds up that loop, but it does get its answer.
            with ThreadPoolExecutor(1) as thread:
                return thread.submit(self.run, work).result()
        with self._loop() as loop:
            return _finished(loop, work())

    def iterate(self, events: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
        """What an asynchronous generator yields. Not inside a running loop."""
        with self._loop() as loop:
            source: Any = events()
            try:
                while (event := _finished(loop, _following(source))) is not _END:
                    yield event
            finally:
                _finished(loop, source.aclose())

    def close(self, last: Callable[[], Awaitable[None]]) -> None:
        """Loops in use are closed when they come back."""
        with self._lock:
            self._last = last
            idle, self._idle = self._idle, []
        for loop, _ in idle:
            _end(loop, last)

    @contextmanager
    def _loop(self) -> Iterator[asyncio.AbstractEventLoop]:
        with self._lock:
            loop, since = self._idle.pop() if self._idle else (asyncio.new_event_loop(), time.monotonic())
        try:
            if time.monotonic() - since > _STALE_S:
                _finished(loop, asyncio.sleep(0))  # see which connections have been closed meanwhile
            yield loop
        finally:
            with self._lock:
                last = self._last
                if last is None:
                    self._idle.append((loop, time.monotonic()))
            if last is not None:
                _end(loop, last)


def _inside_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _finished(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    task = loop.create_task(work)
    try:
        return loop.run_until_complete(task)
    except BaseException:
        if not task.done():  # an interrupt: it must not go on when the loop next runs
            task.cancel()
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        raise


def _end(loop: asyncio.AbstractEventLoop, last: Callable[[], Awaitable[None]]) -> None:
    try:
        loop.run_until_complete(_awaited(last))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


async def _awaited(last: Callable[[], Awaitable[None]]) -> None:
    await last()


async def _following(events: AsyncIterator[Any]) -> Any:
    return await anext(events, _END)
