"""Scores: intervals and comparisons."""

from __future__ import annotations

import random

import pytest

from dspex_services.evaluation.statistics import compare, summary


def test_a_summary_bounds_the_score() -> None:
    found = summary([1.0] * 80 + [0.0] * 20, failed=3)
    assert (found.score, found.examples, found.failed) == (80.0, 100, 3)
    # the standard error is 4 points: a 95 % interval is about 8 to each side
    assert 70 <= found.low <= 74
    assert 86 <= found.high <= 89
    assert summary([]) == summary([], 0)
    assert summary([]).score == 0


def test_the_same_scores_give_the_same_bounds() -> None:
    scores = [random.Random(5).random() for _ in range(50)]
    assert summary(scores) == summary(list(scores))


def test_a_paired_difference_is_found_where_the_intervals_overlap() -> None:
    dice = random.Random(2)
    before = [dice.random() for _ in range(100)]
    after = [min(1.0, score + 0.05) for score in before]
    apart = (summary(before), summary(after))
    assert apart[0].high > apart[1].low
    found = compare(before, after)
    assert found.significant
    assert 4 < found.difference < 5.01
    assert (found.worse, found.better + found.same) == (0, 100)
    assert found.chance < 0.01


def test_no_difference_is_not_significant() -> None:
    scores = [0.0, 1.0] * 20
    found = compare(scores, list(reversed(scores)))
    assert (found.difference, found.significant, found.better, found.worse) == (0.0, False, 20, 20)
    assert found.chance > 0.5
    with pytest.raises(ValueError, match="same examples"):
        compare([1.0], [])


def test_bounds_of_two_values_are_those_that_resampling_comes_to() -> None:
    """A third value, as good as one of the two, has them drawn."""
    for count, good in ((100, 80), (500, 3), (500, 250), (40, 39)):
        exact = summary([1.0] * good + [0.0] * (count - good))
        drawn = summary([1.0] * (good - 1) + [1.0 - 1e-9] + [0.0] * (count - good))
        step = 100 / count
        assert abs(exact.low - drawn.low) <= 1.01 * step
        assert abs(exact.high - drawn.high) <= 1.01 * step
        assert exact.low < exact.score < exact.high


def test_scores_that_are_all_equal_leave_nothing_open() -> None:
    found = summary([0.25] * 300)
    assert (found.low, found.score, found.high) == (25, 25, 25)
