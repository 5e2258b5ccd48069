"""What a job has come to, kept on the bus between its worker's lives: what it spent, and the best program so far."""

from __future__ import annotations

import msgspec

from dspex_bus import Bus
from dspex_bus.names import token
from dspex_bus.streams import JOBS
from dspex_bus.wire import Usage

from .progress import Trial

KEEP_S = 30 * 86_400.0
MOST_STARTS = 5
"""A job that was started so often and got no further each time is not started again."""


class JobRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``idle_starts`` counts starts since the last thing that was new; ``best`` is the digest of a stored state, and
    ``best_score`` its score in per cent; ``program`` the version it was kept as."""

    started_ms: int
    starts: int = 0
    idle_starts: int = 0
    usage: Usage = Usage()
    best: str = ""
    best_score: float | None = None
    baseline: float | None = None
    phase: str = ""
    stopped: str = ""
    program: str = ""
    history: tuple[Trial, ...] = ()


class Records:
    """By the session's id."""

    def __init__(self, bus: Bus) -> None:
        self._bucket = bus.key_value(JOBS)

    async def get(self, session: str) -> JobRecord | None:
        entry = await self._bucket.get(token(session, "session"))
        return None if entry is None else msgspec.json.decode(entry.value, type=JobRecord)

    async def put(self, session: str, record: JobRecord) -> None:
        await self._bucket.put(token(session, "session"), msgspec.json.encode(record), ttl_s=KEEP_S)
