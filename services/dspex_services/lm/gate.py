"""How many calls run at once: a semaphore that event loops in several threads share, first come, first served."""

from __future__ import annotations

import asyncio
import threading
from collections import deque


class Gate:
    """``await gate.enter()``, then ``gate.leave()``, from any event loop of the process."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._lock = threading.Lock()
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    async def enter(self) -> None:
        with self._lock:
            if self._free and not self._waiting:
                self._free -= 1
                return
            loop = asyncio.get_running_loop()
            turn = loop.create_future()
            place = (loop, turn)
            self._waiting.append(place)
        try:
            await turn
        except asyncio.CancelledError:
            with self._lock:
                still = place in self._waiting
                if still:
                    self._waiting.remove(place)
            if not still:  # the turn had come, or was on its way: it is the next one's
                self.leave()
            raise

    def leave(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._free += 1
                    return
                loop, turn = self._waiting.popleft()
            try:
                loop.call_soon_threadsafe(_give, turn)
            except RuntimeError:  # its loop is closed, and so is nobody waiting
                continue
            return


def _give(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
