"""The level on the bus: a bucket of entries, and leases by which processes agree who makes what is missing.

A lease is a key that vanishes by itself unless it is renewed, so that whoever dies in the middle holds nobody up for
longer than that. When an entry is there, or will not come, its maker says so on a subject that those who wait for it
listen to. A bus that does not answer is a cache that has nothing.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import wait_for
from collections.abc import Callable

from dspex_bus import Bus, Message, subjects
from dspex_bus.errors import Conflict, DspexError
from dspex_bus.streams import CACHE
from dspex_bus.wire import ErrorInfo, encode, error_from, error_info
from dspex_bus.wire import decode as decode_message

from .entry import Entry
from .entry import decode as decode_entry
from .entry import encode as encode_entry

logger = logging.getLogger("dspex.cache")

_PATIENCE_S = 1.0
"""A bus slower than that would cost more than it saves."""
_SHORTEST_S = 1.0
"""The server keeps no key for less."""
_LONGEST_S = 10 * 365 * 86_400.0
"""What is kept for ever is kept here so long: the server knows no word for it."""


class Shared:
    """``largest`` bounds an entry's bytes here; larger ones are kept in memory alone."""

    def __init__(self, bus: Bus, *, lease_s: float, largest: int) -> None:
        self._bus = bus
        self._bucket = bus.key_value(CACHE)
        self._lease_s = lease_s
        self._largest = largest

    async def get(self, key: str) -> Entry | None:
        try:
            found = await wait_for(self._bucket.get(key), _PATIENCE_S)
        except (DspexError, TimeoutError) as error:
            logger.warning("the shared cache was not read: %r", error)
            return None
        return None if found is None else decode_entry(found.value)

    async def put(self, key: str, entry: Entry, now: float) -> None:
        data = encode_entry(entry)
        if len(data) > self._largest:
            return
        try:
            await wait_for(
                self._bucket.put(key, data, ttl_s=min(max(_SHORTEST_S, entry.expires - now), _LONGEST_S)), _PATIENCE_S
            )
        except (DspexError, TimeoutError) as error:
            logger.warning("the shared cache was not written: %r", error)

    async def lead(self, key: str) -> Lease | None:
        """The right to make an entry; None where another process has it."""
        name = f"lease.{key}"
        try:
            created = self._bucket.create(name, self._bus.name.encode(), ttl_s=self._lease_s)
            revision = await wait_for(created, _PATIENCE_S)
        except Conflict:
            return None
        except (DspexError, TimeoutError) as error:
            logger.warning("the shared cache gave no lease: %r", error)
            return Lease(self._bus, key, None, self._lease_s)
        return Lease(self._bus, key, revision, self._lease_s)

    async def by_another(self, key: str, good: Callable[[Entry | None], bool]) -> Entry | None:
        """What the process that has the lease makes, None where it gives up or dies. Raises what it failed
        with."""
        told: asyncio.Queue[bytes] = asyncio.Queue()

        async def hear(message: Message) -> None:
            told.put_nowait(message.data)

        try:
            subscription = await self._bus.subscribe(subjects.cache_told(key), hear)
        except DspexError as error:
            logger.warning("the shared cache cannot be listened to: %s", error)
            return None
        try:
            while not good(entry := await self.get(key)):
                if not await self._is_led(key):
                    return None
                try:
                    said = await wait_for(told.get(), self._lease_s / 2)
                except TimeoutError:
                    continue
                if said:
                    raise error_from(decode_message(ErrorInfo, said, subject=subjects.cache_told(key)))
            return entry
        finally:
            await subscription.close()

    async def _is_led(self, key: str) -> bool:
        try:
            return await wait_for(self._bucket.get(f"lease.{key}"), _PATIENCE_S) is not None
        except (DspexError, TimeoutError):
            return False


class Lease:
    """Renewed until it is released. Without a ``revision`` there is nothing to renew: the bus did not answer."""

    def __init__(self, bus: Bus, key: str, revision: int | None, lease_s: float) -> None:
        self._bus = bus
        self.key = key
        self._revision = revision
        self._lease_s = lease_s
        self._renewing = asyncio.create_task(self._renew(), name=f"lease {key}") if revision is not None else None

    async def _renew(self) -> None:
        assert self._revision is not None
        bucket, name = self._bus.key_value(CACHE), f"lease.{self.key}"
        while True:
            await asyncio.sleep(self._lease_s / 3)
            try:
                value = self._bus.name.encode()
                self._revision = await bucket.update(name, value, self._revision, ttl_s=self._lease_s)
            except Conflict:  # it ran out and is another's: both make the entry, and both are right
                self._revision = None
                return
            except DspexError as error:
                logger.warning("the lease of %s was not renewed: %s", self.key, error)

    async def release(self, error: DspexError | None = None) -> None:
        """Give it back, and tell who waits: to look again, or the error that they get as well."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        try:
            if self._revision is not None:
                await wait_for(self._bus.key_value(CACHE).delete(f"lease.{self.key}"), _PATIENCE_S)
            said = b"" if error is None else encode(error_info(error))
            await self._bus.publish(subjects.cache_told(self.key), said)
        except (DspexError, TimeoutError) as failed:
            logger.warning("the lease of %s was not given back: %r", self.key, failed)
