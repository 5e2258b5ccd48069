"""Callbacks that run one at a time, in the order in which things came, apart from whatever reads a connection."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from ._tasks import Tasks

logger = logging.getLogger("dspex.bus")

CLOSE_S = 2.0

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Hands over in a task of its own, so that a connection that ends interrupts no callback half-way."""

    def __init__(self, callback: Callable[[T], Awaitable[None]], tasks: Tasks, name: str) -> None:
        self._callback = callback
        self._name = name
        self._arrived: deque[T] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._closing = False
        self._task = tasks.start(self._hand_over(), name)

    @property
    def inside(self) -> bool:
        """Whether it is a callback that asks."""
        return asyncio.current_task() is self._task

    def put(self, item: T) -> None:
        self._arrived.append(item)
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def _hand_over(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while self._arrived:
                try:
                    await self._callback(self._arrived.popleft())
                except Exception:  # whatever one message does to its callback, the next one is handed over
                    logger.exception("%s: a callback failed", self._name)
            if self._closing:
                return
            self._waiting = loop.create_future()
            await self._waiting

    async def close(self, timeout_s: float = CLOSE_S) -> None:
        """What has arrived is still handed over, unless a callback itself closes: then nothing more is.

        No callback starts after this returns; one that hangs is waited for no longer than ``timeout_s``."""
        self._closing = True
        if not self.inside:
            self._wake()
            await asyncio.wait({self._task}, timeout=timeout_s)
        self._arrived.clear()
