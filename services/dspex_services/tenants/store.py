"""The tenants' entries on the bus."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import NamedTuple

from dspex_bus import Bus
from dspex_bus.errors import Conflict
from dspex_bus.names import token
from dspex_bus.streams import TENANTS
from dspex_bus.wire import Budget, TenantHold, TenantLimit, TenantUsage, Usage, decode, encode
from dspex_bus.wire.tenant import Per

from ..budgets import NOTHING, Amount, amount
from .holds import Ask, hold

HELD_S = 20.0
"""What a worker holds is nobody's after that, unless it says so again."""
_ATTEMPTS = 50
_CALENDAR = {"day": "%Y-%m-%d", "month": "%Y-%m", "total": ""}


class Standing(NamedTuple):
    """``used`` is what was used in the period that the limit counts, and that is not over."""

    tenant: str
    limit: TenantLimit | None
    used: Usage | None


class TenantStore:
    def __init__(self, bus: Bus, *, clock: Callable[[], float] = time.time) -> None:
        self._bucket = bus.key_value(TENANTS)
        self._clock = clock

    async def get(self, tenant: str) -> Standing:
        limit, (used, _) = await asyncio.gather(self._limit(tenant), self._used(tenant))
        counts = used is not None and used.period == self._period(limit)
        return Standing(tenant, limit, used.usage if used is not None and counts else None)

    async def list(self) -> list[Standing]:
        """Those with a limit, and those who have used something."""
        names = {key.partition(".")[2] for key in await self._bucket.keys()}
        return [await self.get(name) for name in sorted(names)]

    async def set_limit(self, tenant: str, budget: Budget, per: Per = "total") -> None:
        await self._bucket.put(_key("limit", tenant), encode(TenantLimit(budget=budget, per=per)))

    async def clear_limit(self, tenant: str) -> None:
        await self._bucket.delete(_key("limit", tenant))

    async def reset(self, tenant: str) -> None:
        """Forget what it has used."""
        await self._bucket.delete(_key("used", tenant))

    async def add(self, tenant: str, usage: Usage) -> Standing:
        """Count it. Raises Conflict where others count so fast that there is no coming in between."""
        return (await self.turn(tenant, usage))[0]

    async def turn(
        self, tenant: str, usage: Usage | None, who: str = "", ask: Callable[[], Ask] = Ask
    ) -> tuple[Standing, Amount]:
        """Count what was used, and hold what ``who`` asks for, as far as it may: how the tenant stands then, and how
        much is held. Raises Conflict as ``add`` does."""
        limit = await self._limit(tenant)
        period, key = self._period(limit), _key("used", tenant)
        for attempt in range(_ATTEMPTS):
            entry, revision = await self._used(tenant)
            book = entry or TenantUsage(usage=Usage(), period=period)
            counts = entry is not None and entry.period == period
            total = book.usage.plus(usage) if counts else usage
            now_ms = int(self._clock() * 1000)
            held = {name: one for name, one in book.held.items() if one.until_ms > now_ms and name != who}
            granted = NOTHING
            if limit is not None:
                others = [Amount(one.tokens, one.cost) for one in held.values()]
                granted = hold(limit.budget, amount(total), others, ask())
            if granted != NOTHING:
                until_ms = now_ms + int(HELD_S * 1000)
                held[who] = TenantHold(tokens=granted.tokens, cost=granted.cost, until_ms=until_ms)
            if total == (entry.usage if entry is not None and counts else None) and held == book.held:
                return Standing(tenant, limit, total), granted
            data = encode(TenantUsage(usage=total or Usage(), period=period, held=held))
            try:
                await (self._bucket.update(key, data, revision) if revision else self._bucket.create(key, data))
                return Standing(tenant, limit, total), granted
            except Conflict:
                await asyncio.sleep(random.random() * 0.002 * (attempt + 1))
        raise Conflict(f"what the tenant {tenant} used could not be counted")

    def _period(self, limit: TenantLimit | None) -> str:
        return time.strftime(_CALENDAR["total" if limit is None else limit.per], time.gmtime(self._clock()))

    async def _limit(self, tenant: str) -> TenantLimit | None:
        key = _key("limit", tenant)
        entry = await self._bucket.get(key)
        return None if entry is None else decode(TenantLimit, entry.value, subject=key)

    async def _used(self, tenant: str) -> tuple[TenantUsage | None, int]:
        key = _key("used", tenant)
        entry = await self._bucket.get(key)
        return (None, 0) if entry is None else (decode(TenantUsage, entry.value, subject=key), entry.revision)


def _key(kind: str, tenant: str) -> str:
    return f"{kind}.{token(tenant, 'tenant')}"
