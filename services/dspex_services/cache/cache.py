"""The two levels together, and the one call that equal misses make."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import NamedTuple, Self

from dspex_bus import Bus, Message, Subscription, subjects
from dspex_bus.errors import DspexError
from dspex_bus.wire import CacheClear, CacheReport, decode, encode

from .entry import Entry, is_due, is_fresh
from .memory import Memory
from .shared import Lease, Shared

logger = logging.getLogger("dspex.cache")

MEMORY_BYTES = 64 * 1024 * 1024
LARGEST_SHARED = 512 * 1024
LEASE_S = 4.0
_RELEASE_S = 5.0


class Made(NamedTuple):
    """What a miss made. ``keep`` False hands it to those who wait for it and keeps it no longer."""

    value: bytes
    keep: bool = True


class Found(NamedTuple):
    value: bytes
    hit: bool


Make = Callable[[], Awaitable[Made]]


class Cache:
    """``async with Cache(bus) as cache: found = await cache.fetch(key("lm", …), make, ttl_s=3600)``

    Entered, it answers ``dspex cache``. ``peek`` may be called from any thread; all else on the event loop of the bus.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        memory_bytes: int = MEMORY_BYTES,
        largest_shared: int = LARGEST_SHARED,
        lease_s: float = LEASE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.memory = Memory(memory_bytes)
        self.loop: asyncio.AbstractEventLoop | None = None
        self._bus = bus
        self._shared = Shared(bus, lease_s=lease_s, largest=largest_shared)
        self._clock = clock
        self._flights: dict[str, asyncio.Future[bytes | None]] = {}
        self._counts = {"memory_hits": 0, "shared_hits": 0, "misses": 0, "joined": 0, "renewed": 0}
        self._subscriptions: list[Subscription] = []

    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        self._subscriptions.append(await self._bus.subscribe(subjects.CACHE_REPORT, self._on_report))
        self._subscriptions.append(await self._bus.subscribe(subjects.CACHE_CLEAR, self._on_clear))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for subscription in self._subscriptions:
            await subscription.close()
        self._subscriptions.clear()

    def peek(self, key: str, ttl_s: float) -> bytes | None:
        """What memory has that is fresh and not due."""
        entry = self.memory.get(key)
        now = self._clock()
        if entry is None or not is_fresh(entry, ttl_s, now) or is_due(entry, ttl_s, now, 1 - random.random()):
            return None
        self._counts["memory_hits"] += 1
        return entry.value

    async def fetch(self, key: str, make: Make, *, ttl_s: float, renew: bool = False) -> Found:
        """What is kept under the key and no older than ``ttl_s``, else what ``make`` makes, which is then kept that
        long. ``renew``: nothing made before this call will do.

        Of equal concurrent misses one calls ``make``, and the others get what it made, or the DspexError it raised. One
        that is cancelled, or fails in another way, leaves it to the next.
        """
        asked = self._clock() if renew else None
        while True:
            if not renew and (value := self.peek(key, ttl_s)) is not None:
                return Found(value, True)
            flight = self._flights.get(key)
            if flight is None:
                found = await self._fly(key, make, ttl_s, asked)
                if found is not None:
                    return found
                continue
            kept = self.memory.get(key)
            if kept is not None and self._good(kept, ttl_s, asked):
                return self._hit("memory_hits", kept)  # somebody is renewing it
            self._counts["joined"] += 1
            value = await asyncio.shield(flight)
            if value is not None and not renew:
                return Found(value, True)

    def _good(self, entry: Entry | None, ttl_s: float, since: float | None) -> bool:
        return is_fresh(entry, ttl_s, self._clock()) and (since is None or entry is None or entry.made >= since)

    async def _fly(self, key: str, make: Make, ttl_s: float, since: float | None) -> Found | None:
        """As the one of this process that looks for it; None where another process gave up on it."""
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        try:
            found = await self._look(key, make, ttl_s, since)
            flight.set_result(None if found is None else found.value)
            return found
        except DspexError as error:
            flight.set_exception(error)
            flight.exception()  # seen, even where nobody joined
            raise
        finally:
            if not flight.done():
                flight.set_result(None)
            del self._flights[key]

    async def _look(self, key: str, make: Make, ttl_s: float, since: float | None) -> Found | None:
        def good(entry: Entry | None) -> bool:
            return self._good(entry, ttl_s, since)

        kept = await self._shared.get(key)
        if kept is not None and good(kept) and not is_due(kept, ttl_s, self._clock(), 1 - random.random()):
            return self._hit("shared_hits", kept, key)
        lease = await self._shared.lead(key)
        if lease is None:
            if kept is not None and good(kept):
                return self._hit("shared_hits", kept, key)  # another process is renewing it
            kept = await self._shared.by_another(key, good)
            return None if kept is None else self._hit("joined", kept, key)
        again = await self._shared.get(key)  # it may have come between the look and the lease
        if again is not None and good(again) and (kept is None or again.made > kept.made):
            await _released(lease)
            return self._hit("shared_hits", again, key)
        return await self._make(key, make, ttl_s, lease, kept if good(kept) else None)

    async def _make(self, key: str, make: Make, ttl_s: float, lease: Lease, kept: Entry | None) -> Found:
        started = self._clock()
        try:
            made = await make()
        except DspexError as error:
            await _released(lease, None if kept is not None else error)
            if kept is not None:  # it was only to be renewed, and is good for a while yet
                return self._hit("shared_hits", kept, key)
            raise
        except BaseException:
            await _released(lease)
            raise
        self._counts["misses" if kept is None else "renewed"] += 1
        now = self._clock()
        if made.keep:
            entry = Entry(made.value, now, now + ttl_s, now - started)
            self.memory.put(key, entry)
            await self._shared.put(key, entry, now)
        await _released(lease)
        return Found(made.value, False)

    def _hit(self, how: str, entry: Entry, key: str = "") -> Found:
        self._counts[how] += 1
        if key:
            self.memory.put(key, entry)
        return Found(entry.value, True)

    # --- what ``dspex cache`` asks ---

    def report(self) -> CacheReport:
        return CacheReport(worker=self._bus.name, entries=len(self.memory), bytes=self.memory.bytes, **self._counts)

    async def _on_report(self, message: Message) -> None:
        if message.reply:
            await self._bus.publish(message.reply, encode(self.report()))

    async def _on_clear(self, message: Message) -> None:
        self.memory.clear(decode(CacheClear, message.data, subject=message.subject).kind)


async def _released(lease: Lease, error: DspexError | None = None) -> None:
    """Cancelled or not, those who wait are told. A process that was held up for long has what it made all the same, and
    its lease runs out."""
    giving_back = asyncio.ensure_future(_given_back(lease, error))
    try:
        await asyncio.shield(giving_back)
    except asyncio.CancelledError:
        await asyncio.gather(giving_back, return_exceptions=True)
        raise


async def _given_back(lease: Lease, error: DspexError | None) -> None:
    try:
        await asyncio.wait_for(lease.release(error), _RELEASE_S)
    except TimeoutError:
        logger.warning("the lease of %s was not given back in time", lease.key)
