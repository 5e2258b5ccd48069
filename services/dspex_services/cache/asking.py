"""What ``dspex cache`` does: ask every worker, count what the bus holds, and empty both."""

from __future__ import annotations

import asyncio

from dspex_bus import Bus, Message, subjects
from dspex_bus.streams import CACHE
from dspex_bus.wire import CacheClear, CacheKind, CacheReport, decode, encode

from .keys import KINDS


async def reports(bus: Bus, *, wait_s: float = 1.0) -> list[CacheReport]:
    """What each worker says of its cache within the time, by name."""
    found: list[CacheReport] = []

    async def hear(message: Message) -> None:
        if message.data:  # without a body it is the server's word that no worker is there
            found.append(decode(CacheReport, message.data, subject=message.subject))

    inbox = f"{subjects.CACHE_REPORT}.{bus.name}"
    async with bus.subscribed(inbox, hear):
        await bus.publish(subjects.CACHE_REPORT, reply=inbox)
        await asyncio.sleep(wait_s)
    return sorted(found, key=lambda report: report.worker)


async def stored(bus: Bus) -> dict[str, int]:
    """How many entries the bus holds, by kind."""
    bucket = bus.key_value(CACHE)
    return {kind: len(await bucket.keys(f"{kind}.>")) for kind in KINDS}


async def clear(bus: Bus, kind: CacheKind = "") -> int:
    """Forget entries of a kind, or all, on the bus and in every worker's memory; how many there were on the bus."""
    purged = 0
    for name in [kind] if kind else KINDS:
        purged += await bus.purge(f"KV_{CACHE}", f"$KV.{CACHE}.{name}.>")
    await bus.publish(subjects.CACHE_CLEAR, encode(CacheClear(kind=kind)))
    return purged
