"""Permits under a limit: a book of who holds them, turned over by one router at a time. Pure: time is an argument.

A book is kept in a key-value bucket and replaced by compare-and-swap, so the limit holds for all routers together. A
permit is a lease: where a router dies, whoever takes over its sessions finds their permits, or they run out."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from msgspec import Struct, field

from dspex_bus.wire import LimitDefinition

LEASE_MS = 30_000


class Book(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``holders`` until when, milliseconds since the epoch; ``tokens`` is how many may start at ``at_ms``, None as
    many as are allowed at once."""

    holders: dict[str, int] = field(default_factory=dict)
    tokens: float | None = None
    at_ms: int = 0


@dataclass(slots=True, frozen=True)
class Turned:
    """``again_ms`` is when it may be worth while to try for those not granted, if nobody gives back a permit before."""

    book: Book
    granted: list[str]
    again_ms: int | None


def turn(
    book: Book,
    limit: LimitDefinition | None,
    *,
    ours: Iterable[str],
    released: Collection[str],
    wanted: Collection[str],
    now_ms: int,
) -> Turned:
    """Take back what is released or has run out, renew ``ours``, and give to ``wanted``, in that order, what there is.
    Whoever holds a permit is granted it again, and first. Without a limit everybody is. It costs what is held and what
    is granted, however many want one."""
    holders = {holder: until for holder, until in book.holders.items() if until > now_ms and holder not in released}
    holders.update({holder: now_ms + LEASE_MS for holder in ours if holder in holders})
    if limit is None:
        return Turned(Book(holders=holders), list(wanted), None)
    tokens = _tokens(book, limit, now_ms)
    granted = [holder for holder in holders if holder in wanted]
    more = False
    for holder in wanted:
        if holder not in holders:
            if len(holders) >= (limit.concurrency or math.inf) or tokens < 1:
                more = True
                break
            tokens -= 1
            holders[holder] = now_ms + LEASE_MS
            granted.append(holder)
    holders.update({holder: now_ms + LEASE_MS for holder in granted})
    turned = Book(holders=holders, tokens=None if tokens == math.inf else tokens, at_ms=now_ms)
    return Turned(turned, granted, _again_ms(turned, limit) if more else None)


def held(book: Book, now_ms: int) -> int:
    return sum(until > now_ms for until in book.holders.values())


def _tokens(book: Book, limit: LimitDefinition, now_ms: int) -> float:
    if limit.per_second is None:
        return math.inf
    most = float(limit.burst or max(1, math.ceil(limit.per_second)))
    if book.tokens is None:
        return most
    return min(most, book.tokens + max(0, now_ms - book.at_ms) / 1000 * limit.per_second)


def _again_ms(book: Book, limit: LimitDefinition) -> int:
    if limit.concurrency is not None and len(book.holders) >= limit.concurrency:
        return min(book.holders.values())
    assert limit.per_second is not None
    assert book.tokens is not None
    return book.at_ms + math.ceil((1 - book.tokens) / limit.per_second * 1000)
