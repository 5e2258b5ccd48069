"""Who runs are for: what each tenant may use, and what it has used, on the bus.

Workers count: each adds what its own calls used to the tenant's one entry, several at a time, by compare-and-swap.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from dspex_bus import Bus
from dspex_bus.errors import Conflict, DspexError
from dspex_bus.streams import TENANTS
from dspex_bus.subjects import token
from dspex_bus.wire import Budget, TenantLimit, TenantUsage, Usage, decode, encode
from dspex_bus.wire.tenant import Per

from .budgets import check, together

logger = logging.getLogger("dspex.tenants")

_FRESH_S = 1.0
_ATTEMPTS = 50
_CALENDAR = {"day": "%Y-%m-%d", "month": "%Y-%m", "total": ""}
_WHEN = {"day": " for today", "month": " for this month", "total": ""}


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
        limit = await self._limit(tenant)
        period, key = self._period(limit), _key("used", tenant)
        for attempt in range(_ATTEMPTS):
            used, revision = await self._used(tenant)
            counts = used is not None and used.period == period
            total = used.usage.plus(usage) if used is not None and counts else usage
            data = encode(TenantUsage(usage=total, period=period))
            try:
                await (self._bucket.update(key, data, revision) if revision else self._bucket.create(key, data))
                return Standing(tenant, limit, total)
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


class Tenants:
    """A worker's side of it. What a tenant stands at is known from when this worker last counted, or asked, which it
    does once a second at most; what is not counted yet is added."""

    def __init__(self, bus: Bus, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._store = TenantStore(bus)
        self._spawn = spawn
        self._known: dict[str, tuple[float, Standing]] = {}
        self._unsaid: dict[str, Usage] = {}
        self._saying: dict[str, Usage] = {}

    async def check(self, tenant: str, own: Usage | None, *, model: str, priced: bool) -> None:
        """Raises BudgetExceeded. ``own`` is what has been used and is not recorded yet."""
        _, limit, used = await self._standing(tenant)
        if limit is None:
            return
        for more in (self._saying.get(tenant), self._unsaid.get(tenant), own):
            used = together(used, more)
        who = f"the tenant {tenant!r}{_WHEN[limit.per]}"
        check(limit.budget, used, who, scope="tenant", model=model, priced=priced)

    async def _standing(self, tenant: str) -> Standing:
        known = self._known.get(tenant)
        if known is not None and time.monotonic() - known[0] <= _FRESH_S:
            return known[1]
        found = await self._store.get(tenant)
        if self._known.get(tenant) is known:  # nothing newer came meanwhile
            self._known[tenant] = (time.monotonic(), found)
        return self._known[tenant][1]

    def add(self, tenant: str, usage: Usage) -> None:
        """Count it, soon."""
        self._unsaid[tenant] = self._unsaid.get(tenant, Usage()).plus(usage)
        if tenant not in self._saying:
            self._saying[tenant] = Usage()
            self._spawn(self._say(tenant))

    async def _say(self, tenant: str) -> None:
        try:
            while (usage := self._unsaid.pop(tenant, None)) is not None:
                self._saying[tenant] = usage
                try:
                    self._known[tenant] = (time.monotonic(), await self._store.add(tenant, usage))
                except DspexError as error:  # it is said with what comes next
                    logger.warning("what the tenant %s used was not counted yet: %s", tenant, error)
                    self._unsaid[tenant] = usage.plus(self._unsaid.get(tenant))
                    return
                self._saying[tenant] = Usage()
        finally:
            del self._saying[tenant]


def _key(kind: str, tenant: str) -> str:
    return f"{kind}.{token(tenant, 'tenant')}"
