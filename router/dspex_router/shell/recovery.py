"""Taking up what nobody has in memory: with a partition all of its sessions in the live index, and from time to time
what was left."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from dspex_bus import Bus
from dspex_bus.errors import DecodeError, DspexError, NewerJournal, Unavailable
from dspex_bus.streams import LIVE

from .config import RouterConfig
from .journals import Journals
from .orphans import Orphans
from .owner import Owner
from .young import live_key

log = logging.getLogger(__name__)

_HANDS = 32


class Recovery:
    """An index entry without a journal belongs to a submit that was never answered; one found in two sweeps is
    dropped. While somebody holds ``steady``, nothing is taken up for being in the index."""

    def __init__(self, bus: Bus, config: RouterConfig, owner: Owner, journals: Journals) -> None:
        self._live = bus.key_value(LIVE)
        self._config = config
        self._owner = owner
        self._journals = journals
        self._orphans = Orphans(bus, owner.controls)
        self._strays: set[str] = set()
        self._in_hand: set[str] = set()
        self.steady = anyio.Lock()

    async def take(self, partitions: frozenset[int]) -> int:
        """Every live session of these that is not in memory; how many there were."""
        async with self.steady:
            return await self._take(partitions)

    async def take_these(self, sessions: Iterable[str]) -> None:
        """Live sessions that only the journal tells of."""
        async with self.steady:
            keys = [live_key(self._journals.partition(session), session) for session in sessions]
            await self._fold_all([key for key in keys if self._is_missing(key, self._owner.owned)])

    async def _take(self, partitions: frozenset[int]) -> int:
        keys = [key for key in await self._live.keys() if self._is_missing(key, partitions)]
        self._strays = await self._fold_all(keys)
        return len(keys)

    async def _fold_all(self, keys: list[str]) -> set[str]:
        """The strays among them."""
        send, receive = anyio.create_memory_object_stream[str](len(keys))
        for key in keys:
            send.send_nowait(key)
        send.close()
        found: set[str] = set()
        with self._owner.recovering():
            await self._by_hands(receive, min(_HANDS, len(keys)), found)
        await self._owner.gate.look_at_books()
        return found

    def _is_missing(self, key: str, partitions: frozenset[int]) -> bool:
        partition, _, session = key.partition(".")
        known = session in self._owner.sessions or session in self._owner.refused
        return int(partition) in partitions and not known

    async def _by_hands(self, keys: MemoryObjectReceiveStream[str], count: int, strays: set[str]) -> None:
        async with keys, anyio.create_task_group() as hands:
            for _ in range(count):
                hands.start_soon(self._work, keys.clone(), strays)

    async def resend(self) -> None:
        """After the connection's return, the server may have lost what it kept in memory: tasks above all."""
        for state in list(self._owner.sessions.values()):
            await self._owner.resend(state)

    async def sweep(self) -> None:
        while True:
            await anyio.sleep(self._config.sweep_s)
            try:
                await self.take(self._owner.owned)
                await self._orphans.cancel(list(self._owner.sessions.values()))
            except DspexError as error:
                log.warning("the live index was not swept: %s", error)

    async def _work(self, keys: MemoryObjectReceiveStream[str], strays: set[str]) -> None:
        async with keys:
            async for key in keys:
                try:
                    await self._one(key, strays)
                except DspexError as error:
                    log.error("session %s is left for the next sweep: %s", key, error)

    async def take_one(self, session: str) -> None:
        """A live session that may be in the index for no longer than we know of it."""
        with self._owner.recovering():
            await self._one(live_key(self._journals.partition(session), session), set())

    async def _one(self, key: str, strays: set[str]) -> None:
        """Each is in one hand at a time: what another had folded before could not be told from what is stored now."""
        _, _, session = key.partition(".")
        if session in self._owner.sessions or session in self._in_hand:
            return
        self._in_hand.add(session)
        try:
            await self._fold(key, strays)
        finally:
            self._in_hand.discard(session)

    async def _fold(self, key: str, strays: set[str]) -> None:
        partition, _, session = key.partition(".")
        try:
            state = await self._journals.fold(session)
        except NewerJournal as error:
            self._owner.refuse(session, error)
            return
        except Unavailable:
            raise  # the world's fault, not the journal's: the next sweep tries again
        except Exception as error:  # whatever its journal does to us, the other sessions are taken over
            await self._abandon(session, int(partition), error)
            return
        if state is not None:
            await self._owner.adopt(state)
            await self._orphans.cancel([state])
        elif key in self._strays:
            await self._live.delete(key)
        else:
            strays.add(key)

    async def _abandon(self, session: str, partition: int, error: Exception) -> None:
        """A journal that cannot be folded ends this session, and no other."""
        try:
            found = await self._journals.accepted(session)
        except DecodeError as unread:
            await self._abandon_unread(session, partition, unread)
            return
        if found is not None:
            await self._owner.abandon(found[0], partition, error)

    async def _abandon_unread(self, session: str, partition: int, error: DecodeError) -> None:
        """Nobody knows whom to tell, but whoever asks shall hear; the sweep after that forgets it."""
        if not await self._journals.has_ended(session):
            log.error("session %s fails on its own: %s", session, error)
            await self._owner.end_unread(session, partition, error)
        else:
            await self._live.delete(live_key(partition, session))
