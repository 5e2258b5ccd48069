"""Conversations in their key-value bucket: every change is a compare-and-swap."""

from __future__ import annotations

import asyncio
import random

from dspex_bus import Bus
from dspex_bus.errors import Conflict, NotFound, Unavailable
from dspex_bus.streams import THREADS
from dspex_bus.subjects import thread_key
from dspex_bus.wire import decode, encode

from .types import Thread, ThreadSummary, Turn

SESSION_TTL_S = 30 * 24 * 3600.0
"""A session's own conversation is forgotten that long after its last turn; a named thread is not."""
_ATTEMPTS = 30


class ThreadStore:
    def __init__(self, bus: Bus) -> None:
        self._bucket = bus.key_value(THREADS)

    async def get(self, name: str, *, tenant: str = "", of_session: bool = False) -> Thread:
        """A conversation by name, or a session's own. Raises NotFound (``unknown_thread``)."""
        thread, revision = await self._read(_key(name, tenant, of_session))
        if not revision:
            raise NotFound(f"there is no thread {name!r}", code="unknown_thread", details={"thread": name})
        return thread

    async def list(self, *, tenant: str | None = None, sessions: bool = False) -> list[ThreadSummary]:
        """Named threads, of all tenants or of one, and with ``sessions`` the sessions' own; last changed first."""
        found = []
        for key in await self._bucket.keys():
            kind, *names = key.split(".")
            of_session, owner = kind == "session", names[0] if kind == "tenant" else ""
            if (of_session and not sessions) or (tenant is not None and owner != tenant):
                continue
            thread, _ = await self._read(key)
            if thread.turns:
                found.append(
                    ThreadSummary(
                        name=names[-1],
                        tenant=owner,
                        of_session=of_session,
                        turns=len(thread.turns),
                        changed_ms=thread.turns[-1].time_ms,
                    )
                )
        return sorted(found, key=lambda summary: -summary.changed_ms)

    async def clear(self, name: str, *, tenant: str = "", of_session: bool = False) -> int:
        """Forget a conversation; how many turns it had."""
        key = _key(name, tenant, of_session)
        thread, _ = await self._read(key)
        await self._bucket.delete(key)
        return len(thread.turns)

    async def read(self, key: str) -> Thread:
        """By the key that a task names; empty where there is none yet."""
        return (await self._read(key))[0]

    async def add(self, key: str, turn: Turn) -> None:
        """Each step's turn once: a step that is run again says it anew in the same place."""
        ttl_s = SESSION_TTL_S if key.startswith("session.") else None
        for attempt in range(_ATTEMPTS):
            thread, revision = await self._read(key)
            changed = encode(thread.with_turn(turn))
            try:
                if revision:
                    await self._bucket.update(key, changed, revision, ttl_s=ttl_s)
                else:
                    await self._bucket.create(key, changed, ttl_s=ttl_s)
                return
            except Conflict:
                await asyncio.sleep(random.uniform(0, 0.002 * (attempt + 1)))
        raise Unavailable(f"too many runs write to the thread {key} at once; try again")

    async def _read(self, key: str) -> tuple[Thread, int]:
        """The thread and its revision, 0 where there is none."""
        entry = await self._bucket.get(key)
        if entry is None:
            return Thread(), 0
        return decode(Thread, entry.value, subject=key), entry.revision


def _key(name: str, tenant: str, of_session: bool) -> str:
    return thread_key("", "", name) if of_session else thread_key(name, tenant, "")
