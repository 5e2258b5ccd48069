"""The router's time is the bus's: it is asked for it now and then, and the core is told, it never looks."""

from __future__ import annotations

import logging

import anyio

from dspex_bus import Bus
from dspex_bus.errors import DspexError
from dspex_bus.streams import EVENTS

log = logging.getLogger(__name__)

_ASK_S = 2.0


async def keep_time(bus: Bus) -> None:
    """Run for as long as the router does."""
    while True:
        await anyio.sleep(_ASK_S)
        try:
            await bus.stream_info(EVENTS)
        except DspexError as error:
            log.debug("the time is asked for again in %g s: %s", _ASK_S, error)
