"""What is kept of sessions that are in nobody's memory.

A parked session's key has the second at which it must be back by then, so that those that are due are found without
looking at the others. A partition's checkpoint says up to where its journal holds nothing that a parked session has not
been woken for.
"""

from __future__ import annotations

import msgspec

from dspex_bus import Bus
from dspex_bus.streams import CHECKPOINTS, PARKED

_SECONDS_AT_ONCE = 120
"""Of more than these all keys are read at once."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """``sequence``: later events may concern parked sessions that do not know of them. ``second``: those due up to it
    have been woken. ``leaving``: sessions on their way out of memory, or out of it already; who takes the partition
    over keeps them in the live index."""

    sequence: int
    second: int
    leaving: tuple[str, ...] = ()


_checkpoint = msgspec.json.Decoder(Checkpoint)


class Parked:
    def __init__(self, bus: Bus) -> None:
        self._parked = bus.key_value(PARKED)
        self._checkpoints = bus.key_value(CHECKPOINTS)

    async def keep(self, partition: int, session: str, second: int) -> None:
        await self._parked.put(f"{partition}.{second}.{session}", b"")

    async def kept(self, partition: int, session: str) -> list[str]:
        """The session's keys: none, or one, or more where a router died in between."""
        return await self._parked.keys(f"{partition}.*.{session}")

    async def forget(self, keys: list[str]) -> None:
        for key in keys:
            await self._parked.delete(key)

    async def due(self, first: int, last: int) -> dict[str, int]:
        """The partitions of the sessions that must be back between two seconds, these included."""
        if last - first >= _SECONDS_AT_ONCE:
            keys = [key for key in await self._parked.keys() if first <= int(key.split(".")[1]) <= last]
        else:
            keys = [key for second in range(first, last + 1) for key in await self._parked.keys(f"*.{second}.*")]
        return {session: int(partition) for partition, _, session in (key.split(".") for key in keys)}

    async def count(self) -> int:
        return await self._parked.count()

    async def keys(self) -> list[str]:
        """Of all of them: partition, second and session."""
        return await self._parked.keys()

    async def checkpoint(self, partition: int) -> tuple[Checkpoint | None, int]:
        """And its revision, 0 where there is none yet."""
        found = await self._checkpoints.get(str(partition))
        return (None, 0) if found is None else (_checkpoint.decode(found.value), found.revision)

    async def replace(self, partition: int, checkpoint: Checkpoint, revision: int) -> int:
        """The new revision. Raises Conflict where another router was faster."""
        data = msgspec.json.encode(checkpoint)
        if revision:
            return await self._checkpoints.update(str(partition), data, revision)
        return await self._checkpoints.create(str(partition), data)
