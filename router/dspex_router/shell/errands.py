"""Small writes that nobody waits for: they must not stand in the way of the next event."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import anyio

from dspex_bus.errors import DspexError

log = logging.getLogger(__name__)

Errand = Callable[[], Awaitable[object]]

_HANDS = 16
_LATER_S = 0.05


class Errands:
    """An errand that fails is logged and dropped: each is one that recovery would do again, or that is a courtesy.
    Those that are left when :meth:`run` is cancelled are left to whoever comes after us."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[Errand] = asyncio.Queue()
        self._later: list[Errand] = []

    def add(self, errand: Errand) -> None:
        self._waiting.put_nowait(errand)

    def add_later(self, errand: Errand) -> None:
        """It may wait a moment: done together with others it wakes nobody up for itself."""
        self._later.append(errand)
        if len(self._later) == 1:
            asyncio.get_running_loop().call_later(_LATER_S, self._add_those)

    def _add_those(self) -> None:
        errands, self._later = self._later, []
        for errand in errands:
            self.add(errand)

    async def run(self) -> None:
        async with anyio.create_task_group() as hands:
            for _ in range(_HANDS):
                hands.start_soon(self._work)

    async def _work(self) -> None:
        while True:
            errand = await self._waiting.get()
            try:
                await errand()
            except DspexError as error:
                log.warning("an errand failed: %s", error)
            except Exception:  # a mistake of ours: the hand that found it has other errands
                log.exception("an errand failed")
