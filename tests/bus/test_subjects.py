"""Subjects: built and split in one place, and no name widens one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_bus import subjects
from dspex_bus.errors import InvalidName

TOKENS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
NUMBERS = st.integers(0, 10_000)
BAD = ["", "a.b", "a b", "*", ">", "a*", "$SYS", "é", "a\n", "x" * 65, "a\t", "."]


@pytest.mark.parametrize("name", BAD)
def test_names_that_cannot_be_tokens(name: str) -> None:
    with pytest.raises(InvalidName) as refusal:
        subjects.token(name, "pool")
    assert refusal.value.details == {"what": "pool", "value": name}
    for build in (subjects.run, subjects.submit):
        with pytest.raises(InvalidName):
            build(name)


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b", "a.*", "a.>", "a b.c", ".".join("a" * 9)])
def test_names_that_cannot_be_operations(name: str) -> None:
    with pytest.raises(InvalidName):
        subjects.call(name)


@given(TOKENS)
def test_tokens_are_themselves(name: str) -> None:
    assert subjects.token(name, "x") == name
    assert subjects.run(name) == f"dspex.v1.run.{name}"


@given(NUMBERS, TOKENS, TOKENS, TOKENS, st.integers(1, 1000))
def test_an_outcome_s_subject_tells_where_it_belongs(
    partition: int, session: str, pool: str, node: str, attempt: int
) -> None:
    found = subjects.split_journal(subjects.outcome(partition, session, pool, node, attempt))
    assert found == (partition, session, "step", pool, node, attempt)


@given(NUMBERS, TOKENS, TOKENS, TOKENS)
def test_the_other_subjects_of_a_journal(partition: int, session: str, name: str, id: str) -> None:
    for build, kind in (
        (subjects.accepted(partition, session), "accepted"),
        (subjects.cancel_request(partition, session), "cancel"),
        (subjects.control(partition, session, 3), "control"),
        (subjects.signal(partition, session, name, id), "signal"),
        (subjects.end(partition, session), "end"),
    ):
        assert subjects.split_journal(build)[:3] == (partition, session, kind)
        assert build.startswith(subjects.session_journal(partition, session).removesuffix(">"))
        assert build.startswith(subjects.partition_journal(partition).removesuffix(">"))


@given(TOKENS, TOKENS, TOKENS, TOKENS, st.integers(1, 1000))
def test_a_task_s_subject(pool: str, lane: str, session: str, node: str, attempt: int) -> None:
    subject = subjects.task(pool, lane, session, node, attempt)
    assert subjects.split_task(subject) == (pool, lane, session, node, attempt)
    assert subject.startswith(subjects.lane_tasks(pool, lane).removesuffix(">"))
    assert subjects.split_dead(subjects.dead(pool, session, node, attempt)) == (pool, session, node, attempt)


@pytest.mark.parametrize("subject", ["dspex.v1.journal", "dspex.v1.journal.x.s.accepted", "a.b.c.d.e.f.g.h.i"])
def test_what_is_no_journal_subject(subject: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        subjects.split_journal(subject)


def test_partitions_are_pinned() -> None:
    """Any language computes them, and what is stored is placed by them: CRC-32 modulo the count."""
    sessions = ("a", "order-7", "9ca03e074bb4a56ad77aaa86")
    assert [subjects.partition_of(session, 16) for session in sessions] == [3, 10, 1]


@given(TOKENS, st.integers(1, 64))
def test_partitions_are_in_range(session: str, count: int) -> None:
    assert 0 <= subjects.partition_of(session, count) < count


def test_requests_about_dead_letters_are_not_stored_as_dead_letters() -> None:
    assert not subjects.letters("list").startswith(f"{subjects.DEAD}.")


def test_token_streams() -> None:
    subject = subjects.token_stream("s", "2-0", 3)
    assert subject.startswith(subjects.session_tokens("s").removesuffix(">"))
    assert subjects.split_token_stream(subject) == ("s", "2-0", 3)
