"""The server's clock, which all hosts share: their own may differ by more than a rate can bear."""

from __future__ import annotations

import math
import secrets
import time

from dspex_bus import Bus
from dspex_bus.streams import RATES

_FRESH_S = 60.0
_KEPT_S = 5.0


class ServerClock:
    """Right to half of a round trip. Steps of this host's clock do not matter to it."""

    def __init__(self, bus: Bus) -> None:
        self._bucket = bus.key_value(RATES)
        self._ahead_ms = 0.0
        self._read_at = -math.inf

    def now_ms(self) -> float:
        return time.monotonic() * 1000 + self._ahead_ms

    async def keep(self) -> None:
        """Read it, where that was long ago. Raises DspexError where the server does not answer."""
        if time.monotonic() - self._read_at < _FRESH_S:
            return
        key = f"clock.{secrets.token_hex(6)}"
        before = time.monotonic()
        await self._bucket.put(key, b"", ttl_s=_KEPT_S)
        after = time.monotonic()
        stored = await self._bucket.get(key)
        if stored is not None:
            self._ahead_ms = stored.time_ms - (before + after) * 500
            self._read_at = after
