"""The book of a shared limit and a process's part of a rate, by the clock of the test."""

from __future__ import annotations

import pytest

from dspex_services.lm import LMBadRequest, LMConfig
from dspex_services.lm.sharing.book import LEASE_MS, Ask, Book, Limits, turn
from dspex_services.lm.sharing.lease import Lease
from dspex_services.lm.types import SharedLimits

NOW = 1_000_000.0


def test_a_rate_is_lent_on_from_where_it_is_spent() -> None:
    limits = Limits(requests_per_minute=600, tokens_per_minute=6_000)
    one = turn(Book(), limits, "a", Ask(requests=10, tokens=200), NOW)
    assert one.requests_ms == NOW - 900, "a second's worth may go at once"
    assert one.tokens_ms == NOW - 990
    two = turn(one.book, limits, "b", Ask(requests=5, tokens=10), NOW)
    assert two.requests_ms == NOW + 100
    assert two.tokens_ms == NOW + 1_010
    back = turn(two.book, limits, "b", Ask(requests_back=4, tokens_back=-100), NOW)
    after = turn(back.book, limits, "a", Ask(requests=1, tokens=1), NOW)
    assert after.requests_ms == NOW + 200, "what is given back is there again"
    assert after.tokens_ms == NOW + 2_110, "what was used beyond is spent"


def test_what_was_not_used_is_not_saved_up() -> None:
    limits = Limits(requests_per_minute=60)
    spent = turn(Book(), limits, "a", Ask(requests=1), NOW).book
    later = turn(spent, limits, "a", Ask(requests=3, requests_back=50), NOW + 60_000)
    assert later.requests_ms == NOW + 60_000
    assert turn(later.book, limits, "b", Ask(requests=1), NOW + 60_000).requests_ms == NOW + 63_000


def holder(book: Book, name: str, now_ms: float, limit: int, *, used: int, wants: int) -> tuple[Book, int]:
    have = book.holdings[name].slots if name in book.holdings else 0
    turned = turn(book, Limits(concurrency=limit), name, Ask(slots=have, used=used, wants=wants), now_ms)
    assert sum(held.slots for held in turned.book.holdings.values()) <= limit
    return turned.book, turned.slots


def test_slots_are_shared_out_as_calls_end() -> None:
    book, slots = holder(Book(), "a", NOW, 4, used=0, wants=10)
    assert slots == 4
    book, slots = holder(book, "b", NOW + 1, 4, used=0, wants=10)
    assert slots == 0, "nobody is taken a slot that is in use"
    book, slots = holder(book, "a", NOW + 2, 4, used=3, wants=10)
    assert slots == 3, "the other one is below its share"
    book, slots = holder(book, "b", NOW + 3, 4, used=0, wants=10)
    assert slots == 1
    book, slots = holder(book, "a", NOW + 4, 4, used=1, wants=10)
    assert slots == 2, "and no more than that is given back"
    book, slots = holder(book, "b", NOW + 5, 4, used=1, wants=1)
    assert slots == 1
    book, slots = holder(book, "a", NOW + 6, 4, used=2, wants=10)
    assert slots == 3, "what the other does not want"


def test_more_processes_than_slots_take_turns() -> None:
    book, now = Book(), NOW
    for name in "abc":
        now += 1
        book, _ = holder(book, name, now, 1, used=0, wants=5)
    got = []
    for _ in range(9):
        (having,) = [name for name, held in book.holdings.items() if held.slots]
        got.append(having)
        now += 1
        book, slots = holder(book, having, now, 1, used=0, wants=5)
        assert slots == 0, "it has had its turn"
        for name in "abc":
            if name != having:
                now += 1
                book, _ = holder(book, name, now, 1, used=0, wants=5)
    assert sorted(got) == sorted("abc" * 3)


def test_the_slots_of_the_dead_run_out() -> None:
    book, _ = holder(Book(), "dead", NOW, 3, used=0, wants=3)
    book, slots = holder(book, "b", NOW + LEASE_MS - 1, 3, used=0, wants=2)
    assert slots == 0
    book, slots = holder(book, "b", NOW + LEASE_MS + 1, 3, used=0, wants=2)
    assert slots == 2
    assert set(book.holdings) == {"b"}


def test_units_of_a_lease_come_at_their_time_and_not_late() -> None:
    lease = Lease(600)
    assert lease.wish([1.0] * 50, NOW) == 2, "a chunk's worth, whatever waits"
    lease.borrowed(2, NOW + 500, NOW)
    assert lease.wish([1.0] * 50, NOW + 1) == 0, "not again before that has begun"
    assert lease.has(1, NOW)
    assert lease.take(1) == NOW + 500
    assert lease.take(1) == NOW + 600
    assert not lease.has(1, NOW + 700)
    lease.borrowed(2, NOW + 700, NOW + 700)
    assert not lease.has(1, NOW + 2_000)
    assert lease.back == 2, "what nobody used in its time is given back"


def test_a_call_larger_than_a_chunk_borrows_what_it_needs() -> None:
    lease = Lease(60_000)
    assert lease.wish([5_000, 5_000], NOW) == 5_000
    lease.borrowed(5_000, NOW, NOW)
    assert lease.take(4_000) == NOW
    assert lease.take(1_000) == NOW + 4_000


@pytest.mark.parametrize("wrong", [{}, {"name": "x"}, {"concurrency": 0}, {"tokens_per_minute": -1}])
def test_shared_limits_that_limit_nothing(wrong: dict[str, float]) -> None:
    with pytest.raises(LMBadRequest):
        LMConfig(shared=SharedLimits(**wrong))  # type: ignore[arg-type]
