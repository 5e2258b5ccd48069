"""Children that nobody waits for any more. Their parent tells them, once; whoever was to do it may have died before."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from dspex_bus import Bus, subjects
from dspex_bus.errors import Conflict
from dspex_bus.streams import EVENTS
from dspex_bus.subjects import ROUTER_POOL
from dspex_bus.wire import Parent

from ..core import Session
from .controlling import Controls

log = logging.getLogger(__name__)


class Orphans:
    """A child is wanted for as long as its parent's step has no outcome."""

    def __init__(self, bus: Bus, controls: Controls) -> None:
        self._bus = bus
        self._controls = controls

    async def cancel(self, states: Iterable[Session]) -> None:
        """Those of ``states`` that are orphans."""
        for state in states:
            parent = state.accepted.parent
            if parent is None or state.phase != "running" or not await self._is_decided(parent):
                continue
            log.info("session %s is cancelled: the run that started it does not wait for it any more", state.id)
            try:
                await self._controls.cancel(state.id, "the run that started it does not want it any more")
            except Conflict:
                log.debug("session %s has ended meanwhile", state.id)

    async def _is_decided(self, parent: Parent) -> bool:
        slot = subjects.outcome(parent.partition, parent.session, ROUTER_POOL, parent.node, parent.attempt)
        return await self._bus.last(EVENTS, slot) is not None
