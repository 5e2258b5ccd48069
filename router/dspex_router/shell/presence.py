"""Who is there: workers' announcements, kept as long as they are fresh."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from dspex_bus import Bus, Message, names, subjects
from dspex_bus.errors import DecodeError, DspexError, NoWorkers
from dspex_bus.wire import WorkerPresence, decode

from ..plan import Catalog
from .hearing import Heard

log = logging.getLogger(__name__)

FRESH_S = 3.5
"""Workers announce themselves each second: three in a row are missing."""

KNOWN_S = 15.0
"""A handler that was offered so short a time ago is waited for: its workers are on their way back, or their word is."""

_LOOK_S = 0.5


class Presence:
    """The live workers by pool, and the catalog of what they offer. A pool once seen stays listed, empty if need be."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._workers: dict[str, WorkerPresence] = {}
        self._heard = Heard(_LOOK_S, FRESH_S, time.monotonic())
        self._changed = anyio.Event()
        self._offered: dict[str, float] = {}
        self.pools: set[str] = set()
        self.catalog = Catalog({})

    def workers(self, pool: str) -> list[WorkerPresence]:
        return sorted((w for w in self._workers.values() if w.pool == pool), key=lambda worker: worker.worker)

    def is_on_its_way(self, error: DspexError) -> bool:
        """Whether what is missing may come in a moment: a pool's first worker, or a handler that was there just now."""
        if isinstance(error, NoWorkers):
            return True
        gone = self._offered.get(error.details.get("handler", ""), -KNOWN_S)
        return error.code in ("unknown_handler", "unknown_operation") and time.monotonic() - gone < KNOWN_S

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        async with self._bus.subscribed(subjects.PRESENCE, self._on_presence):
            self._bus.on_reconnect(self._on_reconnect)
            await self.call_roll()
            yield

    async def call_roll(self) -> None:
        """Ask every worker to announce itself at once."""
        await self._bus.publish(subjects.ROLL_CALL)

    def next_change(self) -> anyio.Event:
        """Set when what workers offer changes. Take it before looking, so that no change is missed in between."""
        return self._changed

    async def expire(self) -> None:
        """Run for as long as the table is kept: forgets the silent."""
        while True:
            await anyio.sleep(_LOOK_S)
            silent = self._heard.silent(time.monotonic())
            if self._bus.connected:
                for worker in silent:
                    self._remove(worker)

    async def _on_reconnect(self) -> None:
        self._heard.excuse(time.monotonic())
        await self.call_roll()

    async def _on_presence(self, message: Message) -> None:
        try:
            said = decode(WorkerPresence, message.data, subject=message.subject)
            names.token(said.pool, "pool")
        except (DecodeError, DspexError) as error:
            log.warning("an announcement was ignored: %s", error)
            return
        if said.state == "leaving":
            self._remove(said.worker)
        else:
            self._keep(said)

    def _keep(self, said: WorkerPresence) -> None:
        before = self._workers.get(said.worker)
        self._workers[said.worker] = said
        self._heard.hear(said.worker, time.monotonic())
        self.pools.add(said.pool)
        if before is None or (before.pool, before.state, before.handlers) != (said.pool, said.state, said.handlers):
            self._renew()

    def _remove(self, worker: str) -> None:
        self._heard.drop(worker)
        if self._workers.pop(worker, None) is not None:
            self._renew()

    def _renew(self) -> None:
        now = time.monotonic()
        self._offered |= {name: now for handlers in self.catalog.pools.values() for name in handlers}
        self.catalog = Catalog.of(self._workers.values())
        self._changed.set()
        self._changed = anyio.Event()
