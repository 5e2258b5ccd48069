"""Subjects: built and split in one place, and no name widens one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_bus import names, subjects
from dspex_bus.errors import InvalidName

TOKENS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
NUMBERS = st.integers(0, 10_000)
BAD = ["", "a.b", "a b", "*", ">", "a*", "$SYS", "é", "a\n", "x" * 65, "a\t", "."]


@pytest.mark.parametrize("name", BAD)
def test_names_that_cannot_be_tokens(name: str) -> None:
    with pytest.raises(InvalidName) as refusal:
        names.token(name, "pool")
    assert refusal.value.details == {"what": "pool", "value": name}
    for build in (subjects.run, subjects.submit):
        with pytest.raises(InvalidName):
            build(name)


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b", "a.*", "a.>", "a b.c", ".".join("a" * 9)])
def test_names_that_cannot_be_operations(name: str) -> None:
    with pytest.raises(InvalidName):
        subjects.call(name)


BUILDERS = [
    lambda bad: subjects.accepted(0, bad),
    lambda bad: subjects.outcome(0, bad, "p", "n", 1),
    lambda bad: subjects.outcome(0, "s", bad, "n", 1),
    lambda bad: subjects.outcome(0, "s", "p", bad, 1),
    lambda bad: subjects.cancel_request(0, bad),
    lambda bad: subjects.control(0, bad, 1),
    lambda bad: subjects.signal(0, "s", bad, "i"),
    lambda bad: subjects.signal(0, "s", "n", bad),
    lambda bad: subjects.end(0, bad),
    lambda bad: subjects.session_journal(0, bad),
    lambda bad: subjects.session_end(0, bad),
    lambda bad: subjects.session_events(bad),
    lambda bad: subjects.task(bad, "l", "s", "n", 1),
    lambda bad: subjects.task("p", bad, "s", "n", 1),
    lambda bad: subjects.task("p", "l", bad, "n", 1),
    lambda bad: subjects.task("p", "l", "s", bad, 1),
    lambda bad: subjects.lane_tasks(bad),
    lambda bad: subjects.durable(bad, "l"),
    lambda bad: subjects.session_tasks(bad),
    lambda bad: subjects.now(bad, "o"),
    lambda bad: subjects.presence("p", bad),
    lambda bad: subjects.router(bad),
    lambda bad: subjects.cancelled(bad),
    lambda bad: subjects.progress(bad, "n", 1),
    lambda bad: subjects.session_progress(bad),
    lambda bad: subjects.dead("p", bad, "n", 1),
    lambda bad: subjects.dead_letters(bad),
]


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("bad", ["a.b", "*", ">", "a b", "a\n", "a\r\nPUB x 0", "é", "x" * 300])
def test_no_id_widens_a_subject(build: Callable[[str], str], bad: str) -> None:
    with pytest.raises(InvalidName):
        build(bad)


@given(st.text(max_size=100))
def test_a_name_from_elsewhere_is_made_one_token(name: str) -> None:
    assert names.token(names.safe(name), "name")


def test_a_name_that_is_one_token_stays() -> None:
    assert names.safe("host-1_a") == "host-1_a"


@pytest.mark.parametrize(
    ("built", "subject"),
    [
        (subjects.pipeline("put"), "dspex.v1.pipeline.put"),
        (subjects.session("get"), "dspex.v1.session.get"),
        (subjects.pools("list"), "dspex.v1.pools.list"),
        (subjects.letters("list"), "dspex.v1.letters.list"),
        (subjects.call("dspy.Predict"), "dspex.v1.call.dspy.Predict"),
        (subjects.submit("a"), "dspex.v1.submit.a"),
        (subjects.now("p", "dspy.Predict"), "dspex.v1.now.p.dspy.Predict"),
        (subjects.presence("p", "w"), "dspex.v1.presence.p.w"),
        (subjects.router("r"), "dspex.v1.router.r"),
        (subjects.cancelled("s"), "dspex.v1.cancelled.s"),
        (subjects.progress("s", "0-1", 2), "dspex.v1.progress.s.0-1.2"),
        (subjects.session_progress("s"), "dspex.v1.progress.s.>"),
        (subjects.session_events("s"), "dspex.v1.event.*.s.>"),
        (subjects.session_events("s", 3), "dspex.v1.event.3.s.>"),
        (subjects.session_end(3, "s"), "dspex.v1.event.3.s.end"),
        (subjects.session_journal_end(3), "dspex.v1.journal.3.*.end"),
        (subjects.session_tasks("s"), "dspex.v1.task.*.*.s.>"),
        (subjects.dead_letters(None), "dspex.v1.dead.>"),
        (subjects.dead_letters("p"), "dspex.v1.dead.p.>"),
        (subjects.durable("p"), "p_normal"),
        (subjects.cache_told("lm.abc"), "dspex.v1.cache.told.lm.abc"),
    ],
)
def test_the_public_subjects_are_pinned(built: str, subject: str) -> None:
    assert built == subject


@given(TOKENS)
def test_tokens_are_themselves(name: str) -> None:
    assert names.token(name, "x") == name
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
