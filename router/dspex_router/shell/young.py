"""Sessions that began a moment ago: most are over before anybody need note that they live.

The live index has those that last. Until a session is in it, its partition's checkpoint stays behind its start, so that
whoever takes the partition over finds it in the journal (``docs/decisions/0028``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass

from dspex_bus import Bus
from dspex_bus.streams import LIVE

log = logging.getLogger(__name__)

YOUNG_S = 2.0
"""Those that have lasted so long are put into the index."""

_AT_ONCE = 256


@dataclass(eq=False)
class _Start:
    """``putting``: its index entry is being stored. ``over``: nobody needs that any more."""

    sequence: int
    seen_s: float
    putting: bool = False
    over: bool = False


class Young:
    """``alone`` says that every router there is knows of this; where one does not, sessions are in the index before
    they begin."""

    def __init__(self, bus: Bus, alone: Callable[[], bool]) -> None:
        self._live = bus.key_value(LIVE)
        self._alone = alone
        self._starts: defaultdict[int, dict[str, _Start]] = defaultdict(dict)

    async def announce(self, partition: int, session: str) -> None:
        """Before what starts a session is stored."""
        if not self._alone():
            await self._live.put(live_key(partition, session), b"1")

    async def withdraw(self, partition: int, session: str) -> None:
        """It was announced, and had ended before."""
        if not self._alone():
            await self._live.delete(live_key(partition, session))

    def came(self, partition: int, session: str, sequence: int) -> None:
        """What starts a session is stored in a partition of ours."""
        self._starts[partition].setdefault(session, _Start(sequence, time.monotonic()))

    def over(self, partition: int, session: str) -> bool:
        """Nothing has to be known of it any more; whether there is nothing in the index to be removed."""
        start = self._starts[partition].pop(session, None)
        if start is not None:
            start.over = True
        return start is not None and self._alone()

    def keep(self, partitions: Collection[int]) -> None:
        """The others are somebody else's."""
        for partition in self._starts.keys() - partitions:
            del self._starts[partition]

    def has(self, partition: int, session: str) -> bool:
        return session in self._starts[partition]

    def oldest(self, partition: int) -> int | None:
        """The sequence of the first start that only the journal tells of."""
        return min((start.sequence for start in self._starts[partition].values()), default=None)

    async def put(self, partition: int, session: str) -> int:
        """Into the index; the entry's revision."""
        key = live_key(partition, session)
        start = self._starts[partition].get(session)
        if start is not None:
            start.putting = True
        try:
            revision = await self._live.put(key, b"1")
        finally:
            if start is not None:
                start.putting = False
        if start is not None and start.over:
            await self._live.delete(key, revision=revision)
        elif start is not None and self._starts[partition].get(session) is start:
            del self._starts[partition][session]
        return revision

    async def put_those_that_last(self, passed: Callable[[int], int]) -> None:
        """And those that a partition's checkpoint has passed, up to ``passed`` of it: the journal's end was lost, say,
        and was written anew."""
        before_s = time.monotonic() - YOUNG_S
        due = [
            (partition, session)
            for partition, starts in self._starts.items()
            for session, start in starts.items()
            if not start.putting and (start.seen_s <= before_s or start.sequence <= passed(partition))
        ]
        for first in range(0, len(due), _AT_ONCE):
            puts = (self.put(*place) for place in due[first : first + _AT_ONCE])
            for result in await asyncio.gather(*puts, return_exceptions=True):
                if isinstance(result, BaseException):
                    log.warning("a session is put into the live index in a moment: %s", result)


def live_key(partition: int, session: str) -> str:
    """The session's key in the live index."""
    return f"{partition}.{session}"
