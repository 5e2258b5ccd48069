"""The book of a limit: how far ahead its rates are spent, and who holds how many of its slots. Pure.

Rates are lent in chunks. A rate's state is the time up to which it is spent, so what a dead process had borrowed is
spent and nothing else is lost. Slots are leases: those of a dead process run out.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct, field

LEASE_MS = 6_000
BURST_MS = 1_000
"""Of a rate a second's worth, one unit at least, may go at once."""


class Holding(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One process's ``slots``, of as many as it ``wants``. ``since_ms`` is since when it lacks one: since it
    last gave one back, or began to."""

    slots: int = 0
    wants: int = 0
    since_ms: float = 0
    until_ms: float = 0


class Book(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Times are the server's, in milliseconds since the epoch."""

    requests_ms: float = 0
    tokens_ms: float = 0
    holdings: dict[str, Holding] = field(default_factory=dict)


class Limits(Struct, frozen=True, kw_only=True):
    concurrency: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


class Ask(NamedTuple):
    """What a process wants of the book: units of the rates, and ``back`` those it had and has no use for (fewer than
    none are what it has used beyond); it has ``slots``, of which ``used`` are, and ``wants`` so many."""

    requests: float = 0
    requests_back: float = 0
    tokens: float = 0
    tokens_back: float = 0
    slots: int = 0
    used: int = 0
    wants: int = 0


class Turned(NamedTuple):
    """``requests_ms`` and ``tokens_ms`` are when the first of the units may be used. Where slots are ``contended``, a
    process with more than the ``fair`` share gives back those that get free. ``tell``: others should look again."""

    book: Book
    requests_ms: float
    tokens_ms: float
    slots: int
    fair: int
    contended: bool
    tell: bool


def turn(book: Book, limits: Limits, who: str, ask: Ask, now_ms: float) -> Turned:
    requests_from, requests_ms = _lend(
        book.requests_ms, limits.requests_per_minute, ask.requests, ask.requests_back, now_ms
    )
    tokens_from, tokens_ms = _lend(book.tokens_ms, limits.tokens_per_minute, ask.tokens, ask.tokens_back, now_ms)
    others = {name: held for name, held in book.holdings.items() if held.until_ms > now_ms and name != who}
    if limits.concurrency is None:
        turned = Book(requests_ms=requests_ms, tokens_ms=tokens_ms)
        return Turned(turned, requests_from, tokens_from, 0, 0, False, False)
    before = book.holdings.get(who, Holding())
    mine, fair = _divide(limits.concurrency, others, before, ask, now_ms)
    holdings = {**others, who: mine} if mine.slots or mine.wants else others
    contended = any(held.slots < min(held.wants, max(fair, 1)) for held in others.values())
    lacks = bool(mine.since_ms)
    tell = (lacks and mine.wants > max(before.wants, before.slots)) or (contended and mine.slots < before.slots)
    turned = Book(requests_ms=requests_ms, tokens_ms=tokens_ms, holdings=holdings)
    return Turned(turned, requests_from, tokens_from, mine.slots, fair, contended, tell)


def each_ms(per_minute: float) -> float:
    return 60_000.0 / per_minute


def _lend(spent_ms: float, per_minute: float | None, units: float, back: float, now_ms: float) -> tuple[float, float]:
    """When the units may first be used, and until when the rate is spent then."""
    if per_minute is None:
        return now_ms, 0
    each = each_ms(per_minute)
    earliest = now_ms - max(BURST_MS, each) + each
    start = max(earliest, max(spent_ms, earliest) - back * each)
    return start, start + units * each


def _divide(
    concurrency: int, others: dict[str, Holding], before: Holding, ask: Ask, now_ms: float
) -> tuple[Holding, int]:
    """What a process holds from now on, and the fair share. Nobody is taken a slot that is in use; what is free goes
    first to those below their share, in the order in which they began to wait."""
    wanting = sum(held.wants > 0 for held in others.values()) + (ask.wants > 0)
    fair = concurrency // max(1, wanting)
    below = [held for held in others.values() if held.slots < min(held.wants, max(fair, 1))]
    keep = max(ask.used, min(ask.slots, ask.wants, fair) if below else min(ask.slots, ask.wants))
    since_ms = before.since_ms if before.since_ms and keep == before.slots else now_ms
    free = concurrency - sum(held.slots for held in others.values()) - keep
    first = below if keep >= max(fair, 1) else [held for held in below if held.since_ms < since_ms]
    free -= sum(min(held.wants, max(fair, 1)) - held.slots for held in first)
    slots = keep + max(0, min(ask.wants - keep, free))
    lacks = slots < ask.wants
    return Holding(slots=slots, wants=ask.wants, since_ms=since_ms if lacks else 0, until_ms=now_ms + LEASE_MS), fair
