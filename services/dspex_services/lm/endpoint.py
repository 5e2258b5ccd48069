"""What calls of one model share in a process: its limits, its breaker, and the pause its server asked for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

from dspex_bus import Bus

from .breaker import Breaker
from .errors import LMBadRequest, LMCircuitOpen, LMError, LMRateLimited, LMTimeout, LMUnavailable
from .expecting import Expecting
from .gate import Gate
from .rate import Rate
from .sharing import Limits, NoRoom, ServerClock, Share, Ticket
from .types import LMConfig, LMReply, SharedLimits

_Attempt = Callable[[float], Awaitable[LMReply]]
"""Raises TimeoutError where it would go on past the time it is given, by ``time.monotonic``."""

_BYTES_PER_TOKEN = 4
"""Near enough to reserve by; the reply says how many there were."""
_TELLING_S = 10.0
"""Silence shorter than this tells more of the caller's patience than of the server."""

_LONGEST_PAUSE_S = 60.0
"""A server that asks for longer is asked again after that, by one call or another."""


class Endpoint:
    """Used from any thread and event loop of the process."""

    def __init__(self, config: LMConfig, shares: Shares) -> None:
        self._config = config
        self._shares = shares
        self._gate = Gate(config.max_concurrent) if config.max_concurrent else None
        self._requests = Rate(config.requests_per_minute) if config.requests_per_minute else None
        self._tokens = Rate(config.tokens_per_minute) if config.tokens_per_minute else None
        self._rated = self._requests is not None or self._tokens is not None
        self.expecting = Expecting()
        self._breaker = Breaker(config.breaker_failures, config.breaker_s)
        self._paused_until = 0.0
        self._lock = threading.Lock()

    def run(self, attempt: _Attempt, *, size: int, deadline: float, limit_s: float) -> Awaitable[LMReply]:
        """One attempt, with a body of ``size`` bytes, once every limit allows it. Raises LMRateLimited at once where
        the limits leave no room before the deadline, which is that of a call given ``limit_s``; LMTimeout, or
        LMCircuitOpen."""
        if self._gate is None:
            return self._in_share(attempt, size, deadline, limit_s)
        return self._gated(self._gate, attempt, size, deadline, limit_s)

    async def _gated(self, gate: Gate, attempt: _Attempt, size: int, deadline: float, limit_s: float) -> LMReply:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await gate.enter()
        except TimeoutError:
            raise LMTimeout(
                f"{self._config.model} was busy with {self._config.max_concurrent} other calls for {limit_s:g} s",
                details={"provider": self._config.provider},
            ) from None
        try:
            return await self._in_share(attempt, size, deadline, limit_s)
        finally:
            gate.leave()

    def _in_share(self, attempt: _Attempt, size: int, deadline: float, limit_s: float) -> Awaitable[LMReply]:
        if self._config.shared is None:
            return self._in_rate(attempt, size, deadline, limit_s)
        return self._shared(self._config.shared, attempt, size, deadline, limit_s)

    async def _shared(
        self, limits: SharedLimits, attempt: _Attempt, size: int, deadline: float, limit_s: float
    ) -> LMReply:
        share = self._shares.of(self._config, limits)
        ticket = Ticket(size // _BYTES_PER_TOKEN, deadline)
        try:
            await share.enter(ticket)
            reply = await self._in_rate(attempt, size, deadline, limit_s)
            ticket.used = reply.usage.total
            return reply
        except NoRoom as none:
            raise self._at_its_limit(none.wait_s) from None
        finally:
            share.leave(ticket)

    async def _in_rate(self, attempt: _Attempt, size: int, deadline: float, limit_s: float) -> LMReply:
        estimate = size // _BYTES_PER_TOKEN
        if (self._rated or self._paused_until) and (delay := self._reserve(estimate, deadline)):
            await asyncio.sleep(delay)
        started = time.monotonic()
        if not self._breaker.calm:
            self._admit(started)
        try:
            reply = await attempt(deadline)
        except TimeoutError as late:
            error = LMTimeout(
                f"{self._config.model} did not answer within {limit_s:g} s: allow more time, or ask for less",
                details={"provider": self._config.provider},
            )
            self._note(error, started)
            raise error from late
        except LMError as error:
            self._note(error, started)
            raise
        except BaseException:
            with self._lock:
                self._breaker.gave_up()
            raise
        if self._tokens is not None or not self._breaker.calm:
            with self._lock:
                self._breaker.succeeded()
                if self._tokens is not None:
                    self._tokens.settle(reply.usage.total - estimate)
        return reply

    def _reserve(self, estimate: int, deadline: float) -> float:
        """Seconds until the attempt may start."""
        now = time.monotonic()
        with self._lock:
            wait = max(0.0, self._paused_until - now)
            for rate, units in ((self._requests, 1), (self._tokens, estimate)):
                if rate is not None:
                    wait = max(wait, rate.reserve(units, now))
            if now + wait < deadline:
                return wait
            for rate, units in ((self._requests, 1), (self._tokens, estimate)):
                if rate is not None:
                    rate.settle(-units)
        raise self._at_its_limit(wait)

    def _at_its_limit(self, wait_s: float) -> LMRateLimited:
        return LMRateLimited(
            f"{self._config.model} is at its limit: this call may start in {wait_s:.1f} s, past its deadline",
            details={"provider": self._config.provider, "retry_after_s": round(wait_s, 3)},
        )

    def _admit(self, now: float) -> None:
        with self._lock:
            pause = self._breaker.refuses(now)
        if pause:
            raise LMCircuitOpen(
                f"{self._config.model} kept failing, so it is left alone for {pause:.1f} s more",
                details={"provider": self._config.provider, "retry_after_s": round(pause, 3)},
            )

    def _note(self, error: LMError, started: float) -> None:
        """What an attempt's error tells of the server."""
        now = time.monotonic()
        with self._lock:
            if isinstance(error, LMUnavailable):
                self._breaker.failed(now)
            elif isinstance(error, LMTimeout):
                if now - started >= min(_TELLING_S, self._config.timeout_s):
                    self._breaker.failed(now)
                else:
                    self._breaker.gave_up()
            else:
                self._breaker.succeeded()  # it answered, if only to refuse
            if error.retryable and error.retry_after_s:
                self._paused_until = max(self._paused_until, now + min(error.retry_after_s, _LONGEST_PAUSE_S))


class Shares:
    """This process's shares of limits that others have a share of, by name."""

    def __init__(self) -> None:
        self._at: tuple[Bus, ServerClock, asyncio.AbstractEventLoop] | None = None
        self._known: dict[str, Share] = {}
        self._lock = threading.Lock()

    async def join(self, bus: Bus) -> None:
        with self._lock:
            if self._at is None or self._at[0] is not bus:
                self._at = (bus, ServerClock(bus), asyncio.get_running_loop())
                self._known.clear()

    async def leave(self) -> None:
        with self._lock:
            shares, self._at = list(self._known.values()), None
            self._known.clear()
        for share in shares:
            await share.close()

    def of(self, config: LMConfig, limits: SharedLimits) -> Share:
        name = limits.name or f"{config.model} {config.base_url or ''}"
        with self._lock:
            found = self._known.get(name)
            if found is not None:
                return found
            if self._at is None:
                raise LMBadRequest(f"{config.model} has shared limits, which only a pool's workers can keep")
            each = Limits(
                concurrency=limits.concurrency,
                requests_per_minute=limits.requests_per_minute,
                tokens_per_minute=limits.tokens_per_minute,
            )
            found = self._known[name] = Share(*self._at, name, each)
            return found


class Endpoints:
    """By model and address. ``shares`` must have joined a bus where a model has shared limits."""

    def __init__(self) -> None:
        self.shares = Shares()
        self._known: dict[tuple[str, str | None], Endpoint] = {}
        self._lock = threading.Lock()

    def of(self, config: LMConfig) -> Endpoint:
        key = (config.model, config.base_url)
        with self._lock:
            found = self._known.get(key)
            if found is None:
                found = self._known[key] = Endpoint(config, self.shares)
            return found
