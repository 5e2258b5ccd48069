"""A conversation as one step sees it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from dspex_bus import Bus

from .store import ThreadStore
from .types import Turn

HISTORY = "history"
"""The input field under which a signature has the turns before."""


class Conversation:
    """``used``: the step's handler takes part in it."""

    def __init__(self, bus: Bus, key: str, session: str, node: str) -> None:
        self._store = ThreadStore(bus)
        self._key = key
        self._session = session
        self._node = node
        self.used = False

    async def history(self) -> list[dict[str, Any]]:
        """The inputs and outputs of each turn before this one, the oldest first. What this very step said when it was
        run before is none of them."""
        self.used = True
        thread = await self._store.read(self._key)
        places = [turn.place for turn in thread.turns]
        mine = (self._session, self._node)
        before = thread.turns[: places.index(mine)] if mine in places else thread.turns
        return [turn.fields for turn in before]

    async def remember(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Make this turn the next, or anew what it was."""
        self.used = True
        turn = Turn(
            session=self._session, node=self._node, time_ms=int(time.time() * 1000), fields={**inputs, **outputs}
        )
        await self._store.add(self._key, turn)
