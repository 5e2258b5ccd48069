"""Small writes that nobody waits for: they must not stand in the way of the next event."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable

import anyio

from dspex_bus.errors import DspexError

log = logging.getLogger(__name__)

Errand = Callable[[], Awaitable[object]]

_HANDS = 16


class Errands:
    """An errand that fails is logged and dropped: each is one that recovery would do again, or that is a courtesy."""

    def __init__(self) -> None:
        self._send, self._receive = anyio.create_memory_object_stream[Errand](math.inf)

    def add(self, errand: Errand) -> None:
        try:
            self._send.send_nowait(errand)
        except anyio.ClosedResourceError:
            log.debug("an errand is left to whoever comes after us")

    async def run(self) -> None:
        async with self._send, self._receive, anyio.create_task_group() as hands:
            for _ in range(_HANDS):
                hands.start_soon(self._work)

    async def _work(self) -> None:
        async with self._receive.clone() as errands:
            async for errand in errands:
                try:
                    await errand()
                except DspexError as error:
                    log.warning("an errand failed: %s", error)
                except Exception:
                    log.exception("an errand failed")
