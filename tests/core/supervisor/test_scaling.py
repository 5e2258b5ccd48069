"""How many workers a pool wants."""

from __future__ import annotations

import pytest

from dspex_services.errors import SetupError
from dspex_services.supervisor.scaling import Load, Scaling
from dspex_services.worker.spec import PoolSpec


def scaling(**fields: float) -> Scaling:
    return Scaling(PoolSpec(pool="p", **{"size": 1, "max_size": 8, "slots": 4, "idle_s": 10, **fields}))


def waiting(queued: int, busy: int, wait_s: float = 1.0, **more: int) -> Load:
    return Load(queued=queued, oldest_wait_s=wait_s, busy=busy, **more)


QUIET = Load(queued=0, oldest_wait_s=0, busy=0)


def test_a_pool_of_one_size_is_fixed() -> None:
    assert scaling(max_size=0, size=3).fixed
    assert scaling(max_size=3, size=3).fixed
    with pytest.raises(SetupError, match="3 workers at least and 2 at most"):
        scaling(max_size=2, size=3)
    assert not scaling().fixed


def test_it_grows_when_tasks_have_waited_and_at_most_doubles() -> None:
    pool, sizes = scaling(), []
    for second in range(5):
        pool.look(waiting(queued=100, busy=4 * pool.wanted), second)
        sizes.append(pool.wanted)
    assert sizes == [2, 4, 8, 8, 8]


def test_it_grows_to_what_is_needed() -> None:
    pool = scaling(size=4)
    pool.look(waiting(queued=5, busy=16), 0)
    assert pool.wanted == 6


def test_a_queue_that_moves_is_no_reason() -> None:
    pool = scaling()
    pool.look(waiting(queued=100, busy=4, wait_s=0.4), 0)
    assert pool.wanted == 1


def test_it_waits_for_those_it_has_started() -> None:
    pool = scaling()
    pool.look(waiting(queued=100, busy=4, starting=True), 0)
    assert pool.wanted == 1


def test_slots_of_other_machines_count() -> None:
    pool = scaling(size=2)
    pool.look(waiting(queued=8, busy=24, elsewhere=16), 0)
    assert pool.wanted == 4


def test_one_more_where_what_waits_should_not() -> None:
    pool = scaling()
    pool.look(waiting(queued=1, busy=0), 0)
    assert pool.wanted == 2


def test_it_shrinks_when_for_a_while_fewer_would_have_done() -> None:
    pool = scaling(size=2)
    pool.wanted = 6
    pool.look(Load(queued=0, oldest_wait_s=0, busy=2), 0)
    pool.look(Load(queued=0, oldest_wait_s=0, busy=11), 5)
    pool.look(QUIET, 9.9)
    assert pool.wanted == 6
    pool.look(QUIET, 10)
    assert pool.wanted == 3
    pool.look(QUIET, 11)
    pool.look(QUIET, 21)
    assert pool.wanted == 2
    pool.look(QUIET, 22)
    pool.look(QUIET, 99)
    assert pool.wanted == 2


def test_a_busy_moment_begins_the_time_anew() -> None:
    pool = scaling()
    pool.wanted = 2
    pool.look(QUIET, 0)
    pool.look(Load(queued=0, oldest_wait_s=0, busy=8), 9)
    pool.look(QUIET, 12)
    assert pool.wanted == 2
    pool.look(waiting(queued=1, busy=8), 13)
    assert pool.wanted == 3
