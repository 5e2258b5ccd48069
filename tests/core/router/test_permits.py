"""Permits: who gets one, and when."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dspex_bus.wire import LimitDefinition
from dspex_router.permits import LEASE_MS, Book, Turned, held, turn

NOW = 1_000_000


def limit(**given: Any) -> LimitDefinition:
    return LimitDefinition(name="gpt", **given)


def turned(book: Book, definition: LimitDefinition | None, *wanted: str, at: int = NOW, **more: Any) -> Turned:
    return turn(book, definition, wanted=wanted, now_ms=at, **{"ours": (), "released": (), **more})


def test_so_many_at_once_in_the_order_asked() -> None:
    first = turned(Book(), limit(concurrency=2), "a", "b", "c")
    assert first.granted == ["a", "b"]
    assert first.again_ms == NOW + LEASE_MS
    assert held(first.book, NOW) == 2
    second = turned(first.book, limit(concurrency=2), "c", released={"a"}, at=NOW + 5)
    assert second.granted == ["c"]
    assert set(second.book.holders) == {"b", "c"}
    assert second.again_ms is None


class Crowd(list[str]):
    """Counts how many of it are looked at."""

    looked_at = 0

    def __iter__(self) -> Iterator[str]:
        for holder in super().__iter__():
            self.looked_at += 1
            yield holder


def test_however_many_want_one_it_costs_those_that_get_one() -> None:
    crowd = Crowd(str(number) for number in range(10_000))
    given = turn(Book(), limit(concurrency=3), ours=(), released=(), wanted=crowd, now_ms=NOW)
    assert given.granted == ["0", "1", "2"]
    assert crowd.looked_at == 4
    assert given.again_ms is not None


def test_who_holds_one_is_granted_it_again() -> None:
    first = turned(Book(), limit(concurrency=1), "a")
    again = turned(first.book, limit(concurrency=1), "b", "a", at=NOW + 5)
    assert again.granted == ["a"]
    assert again.book.holders == {"a": NOW + 5 + LEASE_MS}


def test_permits_run_out_unless_they_are_renewed() -> None:
    first = turned(Book(), limit(concurrency=2), "a", "b").book
    renewed = turned(first, limit(concurrency=2), ours={"a", "gone"}, at=NOW + LEASE_MS - 1).book
    assert renewed.holders == {"a": NOW + 2 * LEASE_MS - 1, "b": NOW + LEASE_MS}
    late = turned(renewed, limit(concurrency=2), "c", at=NOW + LEASE_MS)
    assert (late.granted, set(late.book.holders)) == (["c"], {"a", "c"})
    assert held(renewed, NOW + LEASE_MS) == 1


def test_so_many_a_second() -> None:
    definition = limit(per_second=2.0)
    first = turned(Book(), definition, "a", "b", "c")
    assert (first.granted, first.again_ms) == (["a", "b"], NOW + 500)
    assert turned(first.book, definition, "c", at=NOW + 499).granted == []
    assert turned(first.book, definition, "c", "d", at=NOW + 500).granted == ["c"]


def test_a_burst_is_saved_up_and_no_more() -> None:
    definition = limit(per_second=1.0, burst=3)
    first = turned(Book(), definition, *"abcd")
    assert first.granted == ["a", "b", "c"]
    later = turned(first.book, definition, *"defgh", at=NOW + 3_600_000)
    assert later.granted == ["d", "e", "f"]


def test_a_slow_rate() -> None:
    first = turned(Book(), limit(per_second=0.1), "a", "b")
    assert (first.granted, first.again_ms) == (["a"], NOW + 10_000)


def test_a_clock_set_back_gives_no_tokens() -> None:
    first = turned(Book(), limit(per_second=1.0), "a").book
    assert turned(first, limit(per_second=1.0), "b", at=NOW - 10_000).granted == []


def test_both_at_once() -> None:
    definition = limit(concurrency=1, per_second=1.0)
    first = turned(Book(), definition, "a")
    waits = turned(first.book, definition, "b", released={"a"}, at=NOW + 10)
    assert (waits.granted, waits.again_ms) == ([], NOW + 1000)


@pytest.mark.parametrize("wanted", [(), ("a", "b", "c")])
def test_without_a_limit_everybody_is_granted(wanted: tuple[str, ...]) -> None:
    free = turned(Book(holders={"x": NOW + 5}), None, *wanted)
    assert (free.granted, free.again_ms) == (list(wanted), None)
