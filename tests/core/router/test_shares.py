"""Who owns which partitions: all of them, once, evenly, and with little moving."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from dspex_router.shell.shares import shares

MEMBERS = st.sets(st.text("abcdef0123456789-", min_size=1, max_size=8), min_size=1, max_size=9)


@given(st.integers(1, 64), MEMBERS)
def test_every_partition_has_one_owner_and_nobody_has_more_than_a_fair_share(count: int, members: set[str]) -> None:
    found = shares(count, members)
    assert set(found) == members
    assert sorted(itertools.chain.from_iterable(found.values())) == list(range(count))
    sizes = {len(held) for held in found.values()}
    assert max(sizes) - min(sizes) <= 1


@given(MEMBERS)
def test_the_order_in_which_members_are_known_does_not_matter(members: set[str]) -> None:
    assert shares(16, sorted(members)) == shares(16, sorted(members, reverse=True))


def test_one_that_comes_takes_about_its_share_and_no_more() -> None:
    before = shares(64, {"a", "b", "c"})
    after = shares(64, {"a", "b", "c", "d"})
    moved = sum(len(before[member] - after[member]) for member in before)
    assert len(after["d"]) <= moved <= 2 * len(after["d"])


def test_nobody_is_there() -> None:
    assert shares(16, ()) == {}
