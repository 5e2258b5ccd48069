"""Blocking code off the event loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class Threads:
    """At most ``most`` at a time; the rest wait."""

    def __init__(self, most: int) -> None:
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="handler")

    def start(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Returned]:
        """Call it, with the caller's context variables."""
        context = contextvars.copy_context()
        return asyncio.get_running_loop().run_in_executor(self._pool, context.run, _returned, function, arguments)

    def close(self) -> None:
        """Those that run go on: nothing can stop a thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Returned:
    """What a function returned, or raised. An exception is carried as a value, because on its way through futures
    SystemExit and KeyboardInterrupt would end the event loop, and StopIteration be refused; that is a RuntimeError in
    the end, as out of any coroutine."""

    __slots__ = ("error", "value")

    def __init__(self, value: Any, error: BaseException | None) -> None:
        self.value = value
        self.error = error

    def unwrap(self) -> Any:
        if isinstance(self.error, StopIteration):
            raise RuntimeError(f"the handler raised {self.error!r}") from self.error
        if self.error is not None:
            raise self.error
        return self.value


def _returned(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Returned:
    try:
        return Returned(function(*arguments), None)
    except BaseException as error:  # user code: whatever it is, it is the step's, not the thread's
        return Returned(None, error)
