"""Whom a pool starts, replaces and lets go."""

from __future__ import annotations

import pytest

from dspex_services.supervisor.moves import Moves, Seen, delay_after, how_it_ended, moves, overdue, replacements_at_once
from dspex_services.worker.spec import PoolSpec

READY, STARTING, DUE = {"ready": True}, {"ready": False}, {"ready": True, "due": True}


def workers(*states: dict[str, bool], busy: tuple[int, ...] = ()) -> list[Seen]:
    return [Seen(number, busy=busy[number - 1] if busy else 0, **state) for number, state in enumerate(states, start=1)]


@pytest.mark.parametrize(
    ("states", "wanted", "expected"),
    [
        ([], 2, Moves(start=2)),
        ([STARTING], 2, Moves(start=1)),
        ([READY, READY], 2, Moves()),
        ([READY, STARTING], 2, Moves()),
        # A replacement is started, and only when it serves does the old one leave.
        ([DUE, READY], 2, Moves(start=1)),
        ([DUE, READY, STARTING], 2, Moves()),
        ([DUE, READY, READY], 2, Moves(retire=(1,))),
        ([DUE, DUE, READY, STARTING], 2, Moves(retire=(1,))),
        # One dies while another is being replaced: capacity first.
        ([DUE, STARTING], 2, Moves(start=1)),
        # Fewer are wanted.
        ([READY, READY, READY], 1, Moves(retire=(1, 2))),
        ([READY, DUE, READY], 1, Moves(retire=(2, 1))),
        ([READY, STARTING, STARTING], 1, Moves()),
        ([READY], 0, Moves(retire=(1,))),
    ],
)
def test_moves(states: list[dict[str, bool]], wanted: int, expected: Moves) -> None:
    assert moves(workers(*states), wanted) == expected


def test_the_idle_leave_before_the_busy() -> None:
    assert moves(workers(READY, READY, READY, busy=(3, 0, 1)), 1).retire == (2, 3)


def test_a_quarter_is_replaced_at_once() -> None:
    assert [replacements_at_once(wanted) for wanted in (0, 1, 4, 8, 10)] == [1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({}, ""),
        ({"recycle_after_tasks": 100}, "it has done 100 tasks"),
        ({"recycle_after_tasks": 101}, ""),
        ({"recycle_after_s": 60}, "it is 61 s old"),
        ({"recycle_after_s": 62}, ""),
        ({"recycle_over_mb": 199}, "it has grown to 200 MiB"),
        ({"recycle_over_mb": 200}, ""),
    ],
)
def test_overdue(limits: dict[str, float], says: str) -> None:
    spec = PoolSpec(pool="p", **limits)
    assert overdue(spec, done=100, age_s=61.0, memory_bytes=200 * 2**20) == says


def test_one_that_was_large_from_the_start_is_not_replaced_for_ever() -> None:
    assert overdue(PoolSpec(pool="p", recycle_over_mb=1), done=0, age_s=9, memory_bytes=2**30) == ""


def test_delays_double_while_workers_end_at_once() -> None:
    delays, delay = [], 0.0
    for _ in range(9):
        delay = delay_after(0.5, delay)
        delays.append(delay)
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert delay_after(31, 10.0) == 0.1
    assert delay_after(29, 10.0) == 10.0
    assert delay_after(1.1, 0.1) == 0.1


def test_how_it_ended() -> None:
    assert how_it_ended(3) == "ended with exit code 3"
    assert how_it_ended(-9) == "was ended by SIGKILL"
    assert how_it_ended(-99) == "was ended by signal 99"
