"""Which routers are there: each says so several times a second, and at once when it comes or goes.

No lease is held: what a router owns follows from who is there, and two that for a moment believe to own the same
sessions do no harm, since every decision has one slot."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal, Protocol

import anyio

from dspex_bus import Bus, Message, names, subjects
from dspex_bus.errors import DecodeError, DspexError
from dspex_bus.wire import JOURNAL_FORMAT, RouterPresence, decode, encode

from .hearing import Heard

log = logging.getLogger(__name__)

INTERVAL_S = 0.4
FRESH_S = 1.4
"""Three announcements in a row are missing."""

SURE_S = 0.9
"""So long after something that we said has come back to us nobody can have missed us yet, who heard it with us."""

_CATCH_UP_MS = 500
"""When we are back, what was stored while we were away is still on its way to us for so long."""

_NEVER_MS = -(1 << 40)
_SETTLE_S = 0.2
"""How long a router that has just come listens for who is there already."""


class Sure(Protocol):
    """See :meth:`Membership.sure`."""

    def __call__(self, stored_ms: int | None = None, /) -> bool: ...


class Membership:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.id = f"{names.safe(socket.gethostname().split('.')[0][:24])}-{os.getpid()}-{secrets.token_hex(2)}"
        self._owned: frozenset[int] = frozenset()
        self._started_ms = bus.clock.now_ms()
        self._heard = Heard(INTERVAL_S, FRESH_S, time.monotonic())
        self._formats: dict[str, int] = {}
        self._index_only: set[str] = set()
        self._came_back_ms = self._sure_from_ms = _NEVER_MS
        self._changed = anyio.Event()

    def owning(self) -> frozenset[str]:
        """Those that share the partitions: who reads the newest journals, so that none is left to who cannot."""
        formats = {self.id: JOURNAL_FORMAT, **{router: self._formats[router] for router in self._heard.names()}}
        newest = max(formats.values())
        return frozenset(router for router, format in formats.items() if format == newest)

    def all_find_starts(self) -> bool:
        """Whether each of them finds sessions that are in no index yet."""
        return not self._index_only

    def sure(self, stored_ms: int | None = None) -> bool:
        """Whether nobody can have taken us for dead: if not, somebody else may know more than we do. With ``stored_ms``
        whether nobody can have since something was stored: what came while we were away is read when we are back."""
        now_ms = _own_ms()
        if now_ms - self._came_back_ms >= SURE_S * 1000 or now_ms < self._sure_from_ms:
            return False
        return stored_ms is None or stored_ms >= self._bus.clock.now_ms() - (now_ms - self._sure_from_ms)

    def next_change(self) -> anyio.Event:
        """Set when a router comes or goes, or by :meth:`stir`. Take it before looking."""
        return self._changed

    def stir(self) -> None:
        """Have whoever waits for a change look again."""
        self._tell()

    async def tell(self, owned: frozenset[int]) -> None:
        """Say which partitions are ours."""
        if owned != self._owned:
            self._owned = owned
            await self._say("ready")

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """From here on others know of us; at the end they are told that we go."""
        subscription = await self._bus.subscribe(subjects.ROUTERS, self._on_presence)
        self._bus.on_lost(self._on_lost)
        self._bus.on_reconnect(self._on_reconnect)
        try:
            await self._say("ready")
            await anyio.sleep(_SETTLE_S)
            yield
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                await self._say("leaving")
                await subscription.close()

    async def keep(self) -> None:
        """Run for as long as we are there: announces us, and forgets the silent."""
        while True:
            await anyio.sleep(INTERVAL_S)
            await self._say("ready")
            silent = self._heard.silent(time.monotonic())
            if self._bus.connected:
                for router in silent:
                    log.warning("the router %s has fallen silent", router)
                    self._remove(router)

    async def _on_presence(self, message: Message) -> None:
        try:
            said = decode(RouterPresence, message.data, subject=message.subject)
        except DecodeError as error:
            log.warning("an announcement was ignored: %s", error)
            return
        if said.router == self.id:
            self._came_back(said.own_ms)
            return
        if said.state == "leaving":
            self._remove(said.router)
            return
        new = said.router not in self._heard
        self._heard.hear(said.router, time.monotonic())
        self._formats[said.router] = said.format
        if not said.finds_starts:
            self._index_only.add(said.router)
        if new:
            await self._say("ready")  # the newcomer need not wait for our next turn
            self._tell()

    def _came_back(self, said_ms: int) -> None:
        """At first there is nothing that we could have missed."""
        now_ms = _own_ms()
        if self._sure_from_ms < 0:
            self._sure_from_ms = now_ms
        elif now_ms - self._came_back_ms >= SURE_S * 1000:
            self._sure_from_ms = now_ms + _CATCH_UP_MS
        self._came_back_ms = max(self._came_back_ms, said_ms)

    def _on_lost(self) -> None:
        self._came_back_ms = _NEVER_MS

    async def _on_reconnect(self) -> None:
        """What was silent while we were away may have been there all the time."""
        self._heard.excuse(time.monotonic())

    async def _say(self, state: Literal["ready", "leaving"]) -> None:
        said = RouterPresence(
            router=self.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_ms=self._started_ms,
            state=state,
            partitions=tuple(sorted(self._owned)),
            format=JOURNAL_FORMAT,
            own_ms=_own_ms(),
            finds_starts=True,
        )
        try:
            await self._bus.publish(subjects.router(self.id), encode(said))
        except DspexError as error:
            log.debug("our presence was not said: %s", error)

    def _remove(self, router: str) -> None:
        if self._heard.drop(router):
            del self._formats[router]
            self._index_only.discard(router)
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def _own_ms() -> int:
    return int(time.monotonic() * 1000)
