"""The partitions this router owns: taken over and given up as routers come and go."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from dspex_bus import Bus, Reader, subjects
from dspex_bus.errors import DspexError
from dspex_bus.streams import EVENTS

from .membership import Membership
from .owner import Owner
from .parking import Parking
from .recovery import Recovery
from .shares import shares

log = logging.getLogger(__name__)

_AGAIN_S = 0.5


class Ownership:
    """A reader for each set of partitions taken over together, opened before their journals are read: what is stored
    meanwhile is seen, whoever owned them before."""

    def __init__(
        self, bus: Bus, owner: Owner, recovery: Recovery, parking: Parking, membership: Membership, partitions: int
    ) -> None:
        self._bus = bus
        self._owner = owner
        self._recovery = recovery
        self._parking = parking
        parking.on_doubt(self._doubt)
        self._membership = membership
        self._partitions = partitions
        self._doubted: frozenset[int] = frozenset()
        self._readers: list[tuple[frozenset[int], Reader]] = []

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Entered once our share is taken over; given up at the end."""
        try:
            await self._rearrange()
            yield
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                self._owner.own(frozenset())
                for _, reader in self._readers:
                    await reader.close()

    async def follow(self) -> None:
        """Run for as long as partitions are held."""
        while True:
            changed = self._membership.next_change()
            try:
                await self._rearrange()
            except DspexError as error:
                log.warning("partitions could not be taken over, again in %g s: %s", _AGAIN_S, error)
                with anyio.move_on_after(_AGAIN_S):
                    await changed.wait()
                continue
            await changed.wait()

    async def _rearrange(self) -> None:
        wanted = shares(self._partitions, self._membership.owning()).get(self._membership.id, frozenset())
        doubted, self._doubted = self._doubted, frozenset()
        await self._give_up(self._owner.owned & doubted | self._owner.owned - wanted)
        more = wanted - self._owner.owned
        if more:
            self._readers.append((more, await self._read(more, None)))
            self._owner.own(self._owner.owned | more)
            taken = await self._take(more)
            log.info("took over the partitions %s with %d sessions", sorted(more), taken)
        await self._membership.tell(self._owner.owned)

    async def _take(self, more: frozenset[int]) -> int:
        """How many sessions they have that are not parked. What cannot be read now is taken over again."""
        try:
            await self._parking.claim(more)
            taken = await self._recovery.take(more) + await self._parking.catch_up(more)
        except DspexError:
            self._doubted |= more
            raise
        return taken

    def _doubt(self, partition: int) -> None:
        """Somebody else has had it meanwhile: take it over again."""
        self._doubted |= {partition}
        self._membership.stir()

    async def _give_up(self, partitions: frozenset[int]) -> None:
        """Sessions are dropped at once, their readers narrowed to what is left of them."""
        if not partitions:
            return
        self._owner.own(self._owner.owned - partitions)
        log.info("gave up the partitions %s", sorted(partitions))
        readers, self._readers = self._readers, []
        for held, reader in readers:
            left = held - partitions
            if left == held:
                self._readers.append((held, reader))
                continue
            if left:
                self._readers.append((left, await self._read(left, reader.last)))
            await reader.close()

    async def _read(self, partitions: frozenset[int], after: int | None) -> Reader:
        patterns = [subjects.partition_journal(partition) for partition in sorted(partitions)]
        if len(partitions) == self._partitions:
            patterns = [f"{subjects.JOURNAL}.>"]
        return await self._bus.read(EVENTS, patterns, self._owner.on_stored, after=after)
