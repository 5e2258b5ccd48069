"""A process's share of a limit: calls wait here for a slot and for their time, in the order they came."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import secrets
import time
from asyncio import wait_for
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from dspex_bus import Bus, Message, Subscription, subjects
from dspex_bus.errors import Conflict, DspexError
from dspex_bus.streams import RATES

from .book import LEASE_MS, Ask, Book, Limits, Turned, turn
from .clock import ServerClock
from .lease import Lease

logger = logging.getLogger("dspex.lm")

_RENEW_MS = LEASE_MS / 3
_AGAIN_MS = 1_000.0
_SETTLE_MS = 1_000.0
_PATIENCE_S = 2.0
_KEPT_S = 600.0
_MOVED_MS = 5_000.0

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Book).decode


class NoRoom(Exception):
    """``wait_s`` is how long the call would have to wait, longer than it can."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s


@dataclass(slots=True, eq=False)
class Ticket:
    """A call's: ``tokens`` is an estimate, ``used`` what they were; ``deadline`` is by ``time.monotonic``."""

    tokens: float
    deadline: float
    used: float | None = None
    turn: asyncio.Future[float] | None = field(default=None, init=False)
    gone: bool = field(default=False, init=False)

    @property
    def left_s(self) -> float:
        return self.deadline - time.monotonic()


class Share:
    """``enter`` and ``leave`` may be called from any event loop of the process; the rest happens at ``home``, which is
    the bus's."""

    def __init__(
        self, bus: Bus, clock: ServerClock, home: asyncio.AbstractEventLoop, name: str, limits: Limits
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._limits = limits
        self._key = hashlib.sha256(name.encode()).hexdigest()[:32]
        self._who = secrets.token_hex(8)
        self._home = home
        self._requests = Lease(limits.requests_per_minute) if limits.requests_per_minute else None
        self._tokens = Lease(limits.tokens_per_minute) if limits.tokens_per_minute else None
        self._queue: deque[Ticket] = deque()
        self._used = 0
        self._spare = 0
        self._peak = 0
        self._wants = 0
        self._held = 0
        self._until_ms = 0.0
        self._fair = 0
        self._contended = False
        self._looked_ms = -math.inf
        self._look_at_ms = math.inf
        self._woken = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self._listening: Subscription | None = None

    async def enter(self, ticket: Ticket) -> None:
        """Until the call may be made. Raises NoRoom where its time will not do. Call ``leave`` whatever happens."""
        if asyncio.get_running_loop() is self._home:
            await self._enter(ticket)
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._enter(ticket), self._home))

    def leave(self, ticket: Ticket) -> None:
        try:
            if asyncio.get_running_loop() is self._home:
                self._leave(ticket)
                return
        except RuntimeError:
            pass
        with suppress(RuntimeError):  # its loop is closed, and the lease with it
            self._home.call_soon_threadsafe(self._leave, ticket)

    async def close(self) -> None:
        """Give back what is held."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
            self._keeping = None
        if self._listening is not None:
            await self._listening.close()
        self._spare = self._peak = 0
        if self._looked_ms > 0:
            with suppress(DspexError, TimeoutError):
                await wait_for(self._look(), _PATIENCE_S)

    async def _enter(self, ticket: Ticket) -> None:
        if ticket.gone:
            raise asyncio.CancelledError
        now_ms = self._clock.now_ms()
        if (wait_s := self._least_wait_s()) > ticket.left_s:
            raise NoRoom(wait_s)
        ticket.turn = self._home.create_future()
        self._queue.append(ticket)
        self._admit(now_ms)
        if not ticket.turn.done():
            self._wake()
        try:
            async with asyncio.timeout(ticket.left_s):
                start_ms = await ticket.turn
        except TimeoutError:
            raise NoRoom(self._least_wait_s()) from None
        if (delay_s := (start_ms - self._clock.now_ms()) / 1000) > 0:
            await asyncio.sleep(delay_s)

    def _least_wait_s(self) -> float:
        """For those before it, were there no other process; what may go at once aside."""
        wait_s = 0.0
        if per_minute := self._limits.requests_per_minute:
            wait_s = (len(self._queue) - max(1.0, per_minute / 60)) * 60 / per_minute
        if per_minute := self._limits.tokens_per_minute:
            before = sum(waiting.tokens for waiting in self._queue)
            wait_s = max(wait_s, (before - per_minute / 60) * 60 / per_minute)
        return max(0.0, wait_s)

    def _leave(self, ticket: Ticket) -> None:
        if ticket.gone:
            return
        ticket.gone = True
        if ticket in self._queue:
            self._queue.remove(ticket)
            return
        had_turn = ticket.turn is not None and ticket.turn.done() and not ticket.turn.cancelled()
        if ticket.turn is None or not had_turn or ticket.turn.exception() is not None:
            return
        if self._tokens is not None and ticket.used is not None:
            self._tokens.back += ticket.tokens - ticket.used
        self._used -= 1
        if not (self._contended and self._used >= self._fair):
            self._spare += 1
        self._admit(self._clock.now_ms())
        self._wake()

    def _admit(self, now_ms: float) -> None:
        """Let in whoever has a slot and its units."""
        while self._queue:
            ticket = self._queue[0]
            assert ticket.turn is not None
            if ticket.turn.done():  # given up
                self._queue.popleft()
                continue
            if not self._has_slot(now_ms) or not self._has_units(ticket, now_ms):
                return
            self._queue.popleft()
            start_ms = max((lease.take(units) for lease, units in self._wanted(ticket)), default=now_ms)
            if (start_ms - now_ms) / 1000 > ticket.left_s:
                for lease, units in self._wanted(ticket):
                    lease.back += units
                ticket.turn.set_exception(NoRoom((start_ms - now_ms) / 1000))
                continue
            self._spare -= 1
            self._used += 1
            self._peak = max(self._peak, self._used)
            ticket.turn.set_result(start_ms)

    def _has_slot(self, now_ms: float) -> bool:
        return self._limits.concurrency is None or (self._spare > 0 and now_ms < self._until_ms)

    def _has_units(self, ticket: Ticket, now_ms: float) -> bool:
        return all([lease.has(units, now_ms) for lease, units in self._wanted(ticket)])

    def _wanted(self, ticket: Ticket) -> list[tuple[Lease, float]]:
        both = ((self._requests, 1.0), (self._tokens, ticket.tokens))
        return [(lease, units) for lease, units in both if lease is not None]

    # --- looking into the book ---

    def _wake(self) -> None:
        if self._keeping is None or self._keeping.done():
            self._keeping = self._home.create_task(self._keep(), name="share of a model's limits")
        self._woken.set()

    async def _keep(self) -> None:
        while (due_ms := self._due_ms()) < math.inf:
            self._woken.clear()
            if (wait_s := (due_ms - self._clock.now_ms()) / 1000) > 0:
                with suppress(TimeoutError):
                    await wait_for(self._woken.wait(), wait_s)
                continue
            try:
                await wait_for(self._look(), _PATIENCE_S)
            except (DspexError, TimeoutError) as error:
                logger.warning("the shared limits of a model are looked at again: %r", error)
                await asyncio.sleep(_AGAIN_MS / 1000)
            self._admit(self._clock.now_ms())

    def _due_ms(self) -> float:
        """When the book is to be looked into next; never, where nothing is held, wanted or owed."""
        due = [self._look_at_ms]
        now_ms = self._clock.now_ms()
        if self._queue:
            if not self._has_slot(now_ms):
                asked = self._wants >= self._used + len(self._queue)
                due.append(self._looked_ms + _AGAIN_MS if asked else now_ms)
            else:
                due += [
                    lease.begins_ms for lease, units in self._wanted(self._queue[0]) if not lease.has(units, now_ms)
                ]
        if self._held or self._wants:
            due.append(now_ms if self._used + self._spare < self._held else self._looked_ms + _RENEW_MS)
        if any(lease is not None and lease.back for lease in (self._requests, self._tokens)):
            due.append(self._looked_ms + _SETTLE_MS)
        return min(due)

    async def _look(self) -> None:
        await self._clock.keep()
        bucket = self._bus.key_value(RATES)
        if self._limits.concurrency is not None and self._listening is None:
            self._listening = await self._bus.subscribe(subjects.rates(self._key), self._on_told)
        while True:
            found = await bucket.get(self._key)
            now_ms = self._clock.now_ms()
            # A book from the future is from before the server's clock was set back.
            good = found is not None and found.time_ms < now_ms + _MOVED_MS
            book = _decode(found.value) if found is not None and good else Book()
            ask = self._ask(now_ms)
            turned = turn(book, self._limits, self._who, ask, now_ms)
            spare, self._spare = self._spare, 0  # what may be given back must not be used meanwhile
            try:
                if found is None:
                    await bucket.create(self._key, _encode(turned.book), ttl_s=_KEPT_S)
                else:
                    await bucket.update(self._key, _encode(turned.book), found.revision, ttl_s=_KEPT_S)
            except Conflict:
                self._spare += spare
                continue
            except BaseException:
                self._spare += spare
                raise
            break
        self._note(turned, ask, now_ms)
        if turned.tell:
            await self._bus.publish(subjects.rates(self._key), self._who.encode())

    def _ask(self, now_ms: float) -> Ask:
        calls = [ticket for ticket in self._queue if ticket.turn is not None and not ticket.turn.done()]
        wants = max(self._used + len(calls), 0 if self._contended else self._peak)
        ask = Ask(slots=self._used + self._spare, used=self._used, wants=wants)
        if self._requests is not None:
            wish = self._requests.wish([1.0] * len(calls), now_ms) if calls else 0.0
            ask = ask._replace(requests=wish, requests_back=self._requests.back)
        if self._tokens is not None:
            wish = self._tokens.wish([ticket.tokens for ticket in calls], now_ms) if calls else 0.0
            ask = ask._replace(tokens=wish, tokens_back=self._tokens.back)
        return ask

    def _note(self, turned: Turned, ask: Ask, now_ms: float) -> None:
        for lease, units, back, begins_ms in (
            (self._requests, ask.requests, ask.requests_back, turned.requests_ms),
            (self._tokens, ask.tokens, ask.tokens_back, turned.tokens_ms),
        ):
            if lease is not None:
                lease.borrowed(units, begins_ms, now_ms)
                lease.back -= back
        self._looked_ms = now_ms
        self._look_at_ms = math.inf
        if self._limits.concurrency is not None:
            self._held = turned.slots
            self._spare = max(0, turned.slots - self._used)
            self._peak = self._used
            self._wants = ask.wants
            self._until_ms = now_ms + LEASE_MS
            self._fair, self._contended = turned.fair, turned.contended

    async def _on_told(self, message: Message) -> None:
        if message.data != self._who.encode():
            self._look_at_ms = self._clock.now_ms()
            self._wake()
