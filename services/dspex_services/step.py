"""What a handler may know and do besides its input."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from dspex_bus import Bus
from dspex_bus.claim import Claims
from dspex_bus.subjects import call as call_subject
from dspex_bus.wire import Budget, CallReply, CallRequest, ErrorInfo, Usage, decode, encode, error_from

from .budgets import NOTHING, Amount, Ledger, amount, check, together
from .cache import Cache
from .streaming import Tokens
from .tenants import Tenants
from .threads import Conversation

if TYPE_CHECKING:
    from .worker.holding import Held

T = TypeVar("T")

_RUN = "the run"


@dataclass(slots=True)
class Step:
    """What a handler may know and do besides its input: take it as a second argument.

    ``inputs`` are the context's fields that the step reads, ``options`` its constants. ``remaining_s`` is the time
    left. ``cache`` is the worker's. ``program`` is the digest of the stored program that ran. ``budget`` is the run's,
    ``used`` what the run had used of it before this attempt; ``tenant`` is who the run is for. ``ledger`` is what this
    worker knows of the run's spending. ``tokens`` is where the
    model's tokens are said, None where nobody asked for them. ``conversation`` is there for a step with
    ``remember``."""

    session: str
    node: str
    attempt: int
    worker: str
    inputs: dict[str, Any]
    options: dict[str, Any]
    bus: Bus
    clock: Callable[[], float]
    ends_at: float
    say: Callable[[str, float | None], Awaitable[None]]
    thread: Callable[[Callable[[], Any]], Awaitable[Any]]
    usage: Usage | None = None
    cache: Cache | None = None
    program: str = ""
    budget: Budget | None = None
    used: Usage | None = None
    tenant: str = ""
    tenants: Tenants | None = None
    ledger: Ledger | None = None
    tokens: Tokens | None = None
    conversation: Conversation | None = None
    held: Held | None = None

    @property
    def remaining_s(self) -> float:
        """Seconds until the attempt times out; never below 0."""
        return max(0.0, self.ends_at - self.clock())

    async def progress(self, note: str, fraction: float | None = None) -> None:
        """Tell whoever watches how far it is; ``fraction`` is from 0 to 1. Not stored. Where
        tokens are said the note is said among them too."""
        if self.tokens is not None and note:
            self.tokens.status(note)
        await self.say(note, fraction)

    def tell(self, field: str, text: str) -> None:
        """Show more of an output field's text to whoever watches, if anybody asked for that. It never waits, and may be
        called from a thread."""
        if self.tokens is not None:
            self.tokens.piece(field, text)

    async def hold(self, key: str, make: Callable[[], Awaitable[T]]) -> T:
        """What this worker holds for the session under ``key``; where it holds nothing, what ``make`` makes, which it
        then does. It may be gone at the next step, with the worker or for want of room: ``make`` can make it anew. An
        ``affinity`` of the step brings it to the worker that has it."""
        if self.held is None:
            return await make()
        found: T = await self.held.get(self.session, key, make)
        return found

    async def in_thread(self, function: Callable[[], T]) -> T:
        """What a blocking function returns, called in one of the worker's threads. The step keeps its slot until the
        thread ends, even when the step itself has ended before: a thread cannot be stopped."""
        returned: T = await self.thread(function)
        return returned

    @property
    def limited(self) -> bool:
        """Whether there may be a limit to what it may use."""
        return self.budget is not None or bool(self.tenant)

    @property
    def spent(self) -> Usage | None:
        """What the run had used before this attempt, and what this attempt has used."""
        return together(self.used, self.usage)

    async def check_budget(self, *, model: str = "the model", priced: bool = True) -> None:
        """Raises BudgetExceeded where the run, or its tenant, has nothing left. A call that others may run beside is
        better made within :meth:`reserve`."""
        if self.budget is not None:
            check(self.budget, self._ledger().spent, _RUN, scope="run", model=model, priced=priced)
        if self.tenant and self.tenants is not None:
            await self.tenants.check(self.tenant, model=model, priced=priced)

    @asynccontextmanager
    async def reserve(
        self, expected: Usage | Callable[[], Usage], *, model: str = "the model", priced: bool = True
    ) -> AsyncIterator[None]:
        """Around an LM call: what it is ``expected`` to use, as far as can be told when it may be made, is set aside:
        of the run's budget for this worker, and of the tenant's for all. It waits where calls in flight may leave
        nothing for it, and raises BudgetExceeded where nothing is left. Record what it used within.

            async with step.reserve(Usage(input_tokens=500, output_tokens=200)):
                step.record_usage(await my_call())
        """

        def wanted() -> Amount:
            return amount(expected() if callable(expected) else expected)

        ledger, held = self._ledger(), NOTHING
        if self.budget is not None:
            held = await ledger.enter(self.budget, wanted, _RUN, scope="run", model=model, priced=priced)
        try:
            if self.tenant and self.tenants is not None:
                async with self.tenants.reserve(self.tenant, wanted, model=model, priced=priced):
                    yield
            else:
                yield
        finally:
            if self.budget is not None:
                ledger.leave(held)

    def _ledger(self) -> Ledger:
        self.ledger = self.ledger or Ledger()
        self.ledger.know(amount(self.spent))
        return self.ledger

    def record_usage(self, usage: Usage | None) -> None:
        """Add an LM call's usage to the step's outcome, and to what its run and its tenant have used."""
        self.usage = together(self.usage, usage)
        self.pay(usage)

    def pay(self, usage: Usage | None) -> None:
        """Add to what its run and its tenant have used, and not to the step's outcome yet."""
        if usage is None:
            return
        if self.ledger is not None:
            self.ledger.pay(amount(usage))
        if self.tenant and self.tenants is not None:
            self.tenants.add(self.tenant, usage)

    def count_usage(self, usage: Usage | None) -> None:
        """Add to the step's outcome what somebody else has used for it, who has counted it for the tenant."""
        self.usage = together(self.usage, usage)

    async def call(
        self, operation: str, *, constants: Mapping[str, Any] | None = None, **inputs: Any
    ) -> dict[str, Any]:
        """Another operation or handler, anywhere on the bus, within the time left. Raises what it raised."""
        request = CallRequest(
            with_=dict(constants or {}),
            inputs=inputs,
            timeout_s=max(self.remaining_s, 0.001),
            budget=self.budget,
            used=self.spent if self.budget else None,
            tenant=self.tenant,
        )
        subject = call_subject(operation)
        answer = await Claims(self.bus).request(subject, encode(request), timeout_s=self.remaining_s + 1)
        if answer.headers and "Nats-Service-Error-Code" in answer.headers:
            raise error_from(decode(ErrorInfo, answer.data, subject=subject))
        reply = decode(CallReply, answer.data, subject=subject)
        self.count_usage(reply.usage)
        return reply.outputs
