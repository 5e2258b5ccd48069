"""Which task a worker died of."""

from __future__ import annotations

import pytest

from dspex_services.worker.deaths import Deaths, one_more, verdict


@pytest.mark.parametrize(
    ("deliveries", "deaths", "expected"),
    [
        (1, None, "run"),
        (2, None, "run"),
        (3, None, "lost"),
        # Given back by workers that drained: nobody died.
        (3, Deaths(), "run"),
        (9, Deaths(1, 1), "run"),
        (3, Deaths(2, 2), "lost"),
        (3, Deaths(2, 1), "lost"),
        # With others both times: the next time shows which it was.
        (3, Deaths(2, 0), "alone"),
        (4, Deaths(3, 1), "lost"),
        (20, Deaths(), "lost"),
    ],
)
def test_verdict(deliveries: int, deaths: Deaths | None, expected: str) -> None:
    assert verdict(deliveries, deaths) == expected


def test_a_task_that_ran_by_itself_is_what_its_worker_died_of() -> None:
    assert one_more([Deaths()]) == [Deaths(1, 1)]
    assert one_more([Deaths(1, 0)]) == [Deaths(2, 1)]


def test_among_several_nobody_knows() -> None:
    assert one_more([Deaths(), Deaths(1, 0)]) == [Deaths(1, 0), Deaths(2, 0)]
    assert one_more([]) == []


def test_the_one_suspect_among_several_is_it() -> None:
    assert one_more([Deaths(), Deaths(2, 0), Deaths(1, 0)]) == [Deaths(1, 0), Deaths(3, 1), Deaths(2, 0)]


def test_of_two_suspects_nobody_knows() -> None:
    assert one_more([Deaths(2, 0), Deaths(2, 0)]) == [Deaths(3, 0), Deaths(3, 0)]


def test_a_deadly_task_is_found_out_and_its_neighbours_are_not_lost() -> None:
    """Sixteen tasks in one worker; one of them kills it, whenever it is run."""
    tasks = {number: Deaths() for number in range(16)}
    deliveries, crashes = 1, 0
    while any(verdict(deliveries, deaths) == "run" for deaths in tasks.values()):
        tasks = dict(zip(tasks, one_more(list(tasks.values())), strict=True))
        deliveries, crashes = deliveries + 1, crashes + 1
    assert {verdict(deliveries, deaths) for deaths in tasks.values()} == {"alone"}
    (tasks[7],) = one_more([tasks[7]])
    assert (verdict(deliveries + 1, tasks[7]), crashes + 1) == ("lost", 3)
    assert {verdict(deliveries + 1, deaths) for number, deaths in tasks.items() if number != 7} == {"alone"}
