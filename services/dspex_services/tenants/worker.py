"""A worker's side of its tenants."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

from dspex_bus import Bus
from dspex_bus.errors import DspexError
from dspex_bus.wire import Budget, Usage

from ..budgets import NOTHING, Amount, amount, check, together
from .holds import Ask, covers
from .store import HELD_S, Standing, TenantStore

logger = logging.getLogger("dspex.tenants")

_FRESH_S = 1.0
_RENEW_S = HELD_S / 4
_AGAIN_S = 0.1
_KEPT = 4096
_WHEN = {"day": " for today", "month": " for this month", "total": ""}

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Tenants:
    """What a tenant stands at is known from when this worker last counted, or asked, which it does once a second at
    most; what is not counted yet is added."""

    def __init__(self, bus: Bus, spawn: Spawn) -> None:
        self._store = TenantStore(bus)
        self._spawn = spawn
        self._who = secrets.token_hex(8)
        self._known: OrderedDict[str, _Account] = OrderedDict()

    async def check(self, tenant: str, *, model: str, priced: bool) -> None:
        """Raises BudgetExceeded."""
        account = self._of(tenant)
        if (await account.standing()).limit is not None:
            account.check(model, priced)

    @asynccontextmanager
    async def reserve(
        self, tenant: str, expected: Callable[[], Amount], *, model: str, priced: bool
    ) -> AsyncIterator[None]:
        """Around a call that is ``expected`` to use so much. Raises BudgetExceeded, before or after waiting for calls
        in flight here and elsewhere."""
        account = self._of(tenant)
        if (await account.standing()).limit is None:
            yield
            return
        account.check(model, priced)
        held = await account.enter(expected, model, priced)
        try:
            yield
        finally:
            account.leave(held)

    def add(self, tenant: str, usage: Usage) -> None:
        """Count it, soon."""
        self._of(tenant).add(usage)

    def _of(self, tenant: str) -> _Account:
        account = self._known.get(tenant)
        if account is None:
            account = self._known[tenant] = _Account(tenant, self._store, self._spawn, self._who)
        self._known.move_to_end(tenant)
        while len(self._known) > _KEPT and next(iter(self._known.values())).idle:
            self._known.popitem(last=False)
        return account


class _Waiting(NamedTuple):
    expected: Callable[[], Amount]
    model: str
    priced: bool
    turn: asyncio.Future[Amount]


class _Account:
    """One tenant's. ``_held`` is what the bus knows that this worker may use, less what it has used of it since."""

    def __init__(self, tenant: str, store: TenantStore, spawn: Spawn, who: str) -> None:
        self._tenant = tenant
        self._store = store
        self._spawn = spawn
        self._who = who
        self._known: tuple[float, Standing] | None = None
        self._unsaid: Usage | None = None
        self._saying: Usage | None = None
        self._held = NOTHING
        self._held_until = 0.0
        self._reserved = NOTHING
        self._going = 0
        self._waiting: deque[_Waiting] = deque()
        self._keeping = False
        self._woken = asyncio.Event()

    @property
    def idle(self) -> bool:
        return not (self._keeping or self._going)

    async def standing(self) -> Standing:
        known = self._known
        if known is not None and time.monotonic() - known[0] <= _FRESH_S:
            return known[1]
        found = await self._store.get(self._tenant)
        if self._known is known:  # nothing newer came meanwhile
            self._known = (time.monotonic(), found)
        assert self._known is not None
        return self._known[1]

    def check(self, model: str, priced: bool) -> None:
        """By what is known."""
        assert self._known is not None
        _, limit, used = self._known[1]
        if limit is None:
            return
        for more in (self._saying, self._unsaid):
            used = together(used, more)
        who = f"the tenant {self._tenant!r}{_WHEN[limit.per]}"
        check(limit.budget, amount(used), who, scope="tenant", model=model, priced=priced)

    async def enter(self, expected: Callable[[], Amount], model: str, priced: bool) -> Amount:
        budget, wanted = self._budget, expected()
        if budget is None or (not self._waiting and self._fits(budget, wanted)):
            return self._take(wanted)
        waiting = _Waiting(expected, model, priced, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._wake()
        try:
            return await waiting.turn
        except asyncio.CancelledError:
            with suppress(ValueError):
                self._waiting.remove(waiting)
            if waiting.turn.done() and not waiting.turn.cancelled() and waiting.turn.exception() is None:
                self.leave(waiting.turn.result())
            raise

    def leave(self, held: Amount) -> None:
        self._going -= 1
        self._reserved = self._reserved.less(held) if self._going else NOTHING
        self._wake()

    def add(self, usage: Usage) -> None:
        self._unsaid = together(self._unsaid, usage)
        self._held = self._held.less(amount(usage))
        self._wake()

    @property
    def _budget(self) -> Budget | None:
        limit = None if self._known is None else self._known[1].limit
        return None if limit is None else limit.budget

    def _fits(self, budget: Budget, wanted: Amount) -> bool:
        return time.monotonic() < self._held_until and covers(budget, self._held, self._reserved.plus(wanted))

    def _take(self, wanted: Amount) -> Amount:
        self._reserved = self._reserved.plus(wanted)
        self._going += 1
        return wanted

    def _wake(self) -> None:
        self._woken.set()
        if not self._keeping:
            self._keeping = True
            self._spawn(self._keep())

    # --- taking turns at the tenant's entry ---

    async def _keep(self) -> None:
        try:
            while self._unsaid is not None or self._waiting or self._going or self._held != NOTHING:
                self._woken.clear()
                await self._turn()
                if self._unsaid is None and (self._waiting or self._going):
                    within_s = _AGAIN_S * (0.5 + random.random()) if self._waiting else _RENEW_S
                    with suppress(TimeoutError):
                        async with asyncio.timeout(within_s):
                            await self._woken.wait()
        except DspexError as error:
            logger.warning("what the tenant %s used was not counted yet: %s", self._tenant, error)
            self._fail(error)
        finally:
            self._keeping = False

    async def _turn(self) -> None:
        usage, self._unsaid = self._unsaid, None
        self._saying = usage
        self._held_until = 0.0  # what is given back now must not be used meanwhile
        try:
            standing, held = await self._store.turn(self._tenant, usage, self._who, self._ask)
        except BaseException:  # it is said with what comes next
            self._unsaid = together(usage, self._unsaid)
            raise
        finally:
            self._saying = None
        self._known = (time.monotonic(), standing)
        self._held = held.less(amount(self._unsaid))  # what has been used of it meanwhile
        self._held_until = time.monotonic() + HELD_S * 0.75
        self._admit()

    def _ask(self) -> Ask:
        return Ask(self._reserved, self._going, tuple(one.expected() for one in self._waiting))

    def _admit(self) -> None:
        budget = self._budget
        while self._waiting:
            first = self._waiting[0]
            if first.turn.done():  # given up
                self._waiting.popleft()
                continue
            if budget is not None:
                try:
                    self.check(first.model, first.priced)
                except DspexError as error:
                    self._waiting.popleft().turn.set_exception(error)
                    continue
                if not self._fits(budget, first.expected()):
                    return
            self._waiting.popleft()
            first.turn.set_result(self._take(first.expected()))

    def _fail(self, error: DspexError) -> None:
        while self._waiting:
            if not (turn := self._waiting.popleft().turn).done():
                turn.set_exception(error)
