"""Objects that no message names any more: those of purged sessions at once, and from time to time whatever was left."""

from __future__ import annotations

import logging
from collections.abc import Collection

import anyio

from dspex_bus import Bus, subjects
from dspex_bus.errors import DspexError
from dspex_bus.streams import OBJECTS

from .config import RouterConfig
from .journals import Journals
from .owner import Owner

log = logging.getLogger(__name__)

_LOOKS = 24
"""In the time that a stray is kept."""


class Leftovers:
    """A stray belongs to no session that has a journal: what named it was never stored, or its journal went when nobody
    lived to remove it; or it was a request or a reply that nobody read."""

    def __init__(self, bus: Bus, config: RouterConfig, owner: Owner, journals: Journals) -> None:
        self._bus = bus
        self._objects = bus.objects(OBJECTS)
        self._kept_s = config.stray_s
        self._owner = owner
        self._journals = journals

    async def remove_of(self, sessions: Collection[str]) -> None:
        """What is found by the sessions' names is more than their journals tell of: tasks that never ran, for one."""
        if sessions:
            for info in await self._objects.contents():
                if subjects.split_object(info.name) in sessions:
                    await self._objects.delete(info.name)

    async def sweep(self) -> None:
        """Run for as long as the router does."""
        while True:
            await anyio.sleep(self._kept_s / _LOOKS)
            try:
                await self._remove_strays()
            except DspexError as error:
                log.warning("strays were not removed: %s", error)

    async def _remove_strays(self) -> None:
        before_ms = self._bus.clock.now_ms() - int(self._kept_s * 1000)
        await self._objects.tidy(before_ms)
        known: dict[str, bool] = {}
        for info in await self._objects.contents():
            if info.modified_ms >= before_ms:
                break
            session = subjects.split_object(info.name)
            if session is None or self._journals.partition(session) not in self._owner.owned:
                continue
            if session not in known:
                known[session] = await self._has_journal(session)
            if not known[session]:
                log.info("the stray object %s is removed", info.name)
                await self._objects.delete(info.name)

    async def _has_journal(self, session: str) -> bool:
        """What was only said is of no session."""
        return bool(session) and await self._journals.exists(session)
