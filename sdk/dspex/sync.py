"""The client for programs without an event loop: the same methods, each of which waits.

with dspex.connect_sync() as dx:
    print(dx.predict("question -> answer", question="What is a pool?").answer)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from anyio.from_thread import BlockingPortal, start_blocking_portal

from .client import connect

if TYPE_CHECKING:
    from ._blocking import BlockingClient


@contextmanager
def connect_sync(server: str | None = None, *, name: str = "dspex-client", **options: Any) -> Iterator[BlockingClient]:
    """A blocking client. Its connection lives in a thread of its own, closed at the end of the ``with`` block."""
    connecting = connect(server, name=name, **options)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(connecting) as client:
        yield cast("BlockingClient", Blocking(client, portal))


class Blocking:
    """Any asynchronous object of the SDK (client, session, predictor, optimization job, store), with its coroutines run
    to their end and its asynchronous iterators as plain ones."""

    def __init__(self, target: Any, portal: BlockingPortal) -> None:
        self._target = target
        self._portal = portal

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._target, name)
        return self._blocking(attribute) if inspect.isroutine(attribute) else self._handed_out(attribute)

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
            return self._iterate(made) if hasattr(made, "__aiter__") else self._handed_out(made)

        return wait

    def _handed_out(self, made: Any) -> Any:
        return Blocking(made, self._portal) if _is_awaited(type(made)) else made

    def _iterate(self, source: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._portal.call(anext, source)
                except StopAsyncIteration:
                    return
        finally:
            self._portal.call(source.aclose)


def _is_awaited(kind: type) -> bool:
    """Whether it is one of ours with something to await."""
    ours = [base for base in kind.__mro__ if base.__module__.startswith("dspex")]
    parts = [part for base in ours for part in vars(base).values()]
    return any(inspect.iscoroutinefunction(part) or inspect.isasyncgenfunction(part) for part in parts)


async def _await(awaitable: Any) -> Any:
    return await awaitable
