"""DSPy's blocking modules in threads: their outcome is not waited for past the step's end, their slot is."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ..handlers import Step

T = TypeVar("T")


class Threads:
    """Bounded by the worker's own slots: every step has at most one."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(256, thread_name_prefix="dspy")

    async def run(self, step: Step, function: Callable[[], T]) -> T:
        """The function's result. When the step ends first, the thread is left to itself, and keeps the step's slot
        until it is done."""
        context = contextvars.copy_context()
        thread: asyncio.Future[Any] = asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: context.run(function)
        )
        thread.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        step.thread = thread
        return await asyncio.shield(thread)

    async def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
