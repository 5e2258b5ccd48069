"""The client for programs without an event loop: the same methods, each of which waits.

with dspex.connect_sync() as dx:
    print(dx.predict("question -> answer", question="What is a pool?").answer)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from ._handle import Handle
from .client import Client, connect


@contextmanager
def connect_sync(server: str | None = None, **options: Any) -> Iterator[Any]:
    """A blocking client. Its connection lives in a thread of its own, closed at the end of the ``with`` block."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(connect(server, **options)) as client:
        yield Blocking(client, portal)


class Blocking:
    """Any asynchronous object of the SDK (client, session, predictor, optimization job), with its coroutines run to
    their end and its asynchronous iterators as plain ones."""

    def __init__(self, target: Client | Handle, portal: BlockingPortal) -> None:
        self._target = target
        self._portal = portal

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._target, name)
        if not callable(attribute):
            return attribute
        return self._blocking(attribute)

    def __call__(self, **inputs: Any) -> Any:
        return self._blocking(self._target)(**inputs)

    def __repr__(self) -> str:
        return f"Blocking({self._target!r})"

    def _blocking(self, function: Any) -> Any:
        @functools.wraps(function, updated=())
        def wait(*args: Any, **kwargs: Any) -> Any:
            made = function(*args, **kwargs)
            if inspect.isawaitable(made):
                made = self._portal.call(_await, made)
            if hasattr(made, "__aiter__"):
                return self._iterate(made)
            return Blocking(made, self._portal) if isinstance(made, Handle) else made

        return wait

    def _iterate(self, source: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._portal.call(anext, source)
                except StopAsyncIteration:
                    return
        finally:
            self._portal.call(source.aclose)


async def _await(awaitable: Any) -> Any:
    return await awaitable
