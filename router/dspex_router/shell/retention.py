"""Forgetting sessions that ended long ago: a journal lives as long as its session, and the retention period after."""

from __future__ import annotations

import logging

import anyio

from dspex_bus import Bus, subjects
from dspex_bus.errors import DspexError
from dspex_bus.streams import EVENTS

from .config import RouterConfig
from .leftovers import Leftovers
from .owner import Owner

log = logging.getLogger(__name__)

_AT_ONCE = 1000


class Retention:
    """Ends are read in the order they came in, so each look is at what has to go and one that has not."""

    def __init__(self, bus: Bus, config: RouterConfig, owner: Owner, leftovers: Leftovers) -> None:
        self._bus = bus
        self._leftovers = leftovers
        self._config = config
        self._owner = owner

    async def keep(self) -> None:
        """Run for as long as the router does."""
        while True:
            await anyio.sleep(self._config.purge_s)
            try:
                gone: set[str] = set()
                for partition in sorted(self._owner.owned):
                    gone |= await self._purge(partition)
                await self._leftovers.remove_of(gone)
            except DspexError as error:
                log.warning("old sessions were not purged: %s", error)

    async def _purge(self, partition: int) -> set[str]:
        """The sessions whose journals are no more."""
        oldest_ms = self._bus.clock.now_ms() - int(self._config.retention_s * 1000)
        gone: list[str] = []
        async for message in self._bus.history(EVENTS, subjects.session_journal_end(partition)):
            if message.time_ms > oldest_ms or len(gone) == _AT_ONCE:
                break
            gone.append(subjects.split_journal(message.subject).session)
        for session in gone:
            await self._bus.purge(EVENTS, subjects.session_journal(partition, session))
        if gone:
            log.info("purged %d sessions of the partition %d", len(gone), partition)
        return set(gone)
