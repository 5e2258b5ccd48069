"""What scores say, and how surely: intervals by the bootstrap, and two programs compared example by example.

The resamples are drawn with a fixed seed, so that equal scores give equal figures everywhere. Of scores with two values
none are drawn: how many of a resample have the higher one is binomial, and its bounds are known."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import msgspec

RESAMPLES = 2000
_SEED = 1
_LEVEL = 0.95


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Percentages. ``low`` and ``high`` bound the score with 95 % confidence. A ``failed`` example counts 0."""

    score: float
    low: float
    high: float
    examples: int
    failed: int = 0


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """``difference`` is the second score less the first, in percentage points, ``low`` and ``high`` its bounds with
    95 % confidence. ``better`` and ``worse`` count examples; ``chance`` is how often so large a difference comes of
    drawing other examples of the kind."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    better: int
    worse: int
    same: int
    chance: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out no difference at all."""
        return self.low > 0 or self.high < 0


def summary(scores: Sequence[float], failed: int = 0) -> Summary:
    """Of scores from 0 to 1, those of failures included."""
    low, high = _binomial_bounds(scores) if 0 < len(set(scores)) <= 2 else _bounds(_means(scores))
    return Summary(
        score=_percent(_mean(scores)), low=_percent(low), high=_percent(high), examples=len(scores), failed=failed
    )


def compare(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """The paired bootstrap over the same examples in the same order."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} scores are not of the same examples")
    differences = [after - before for before, after in zip(first, second, strict=True)]
    means = _means(differences)
    low, high = _bounds(means)
    against = min(sum(mean <= 0 for mean in means), sum(mean >= 0 for mean in means))
    return Comparison(
        first=_percent(_mean(first)),
        second=_percent(_mean(second)),
        difference=_percent(_mean(differences)),
        low=_percent(low),
        high=_percent(high),
        better=sum(one > 0 for one in differences),
        worse=sum(one < 0 for one in differences),
        same=sum(one == 0 for one in differences),
        chance=min(1.0, round(2 * against / max(1, len(means)), 4)),
    )


def _means(values: Sequence[float]) -> list[float]:
    """The means of resamples, in order."""
    if not values:
        return []
    dice = random.Random(_SEED)
    return sorted(_mean(dice.choices(values, k=len(values))) for _ in range(RESAMPLES))


def _bounds(means: Sequence[float]) -> tuple[float, float]:
    if not means:
        return 0.0, 0.0
    tail = round((1 - _LEVEL) / 2 * len(means))
    return means[tail], means[-1 - tail]


def _binomial_bounds(values: Sequence[float]) -> tuple[float, float]:
    """What :func:`_bounds` tends to with ever more resamples, for values of which there are at most two."""
    least, most, count = min(values), max(values), len(values)
    if least == most:
        return least, least
    chance, tail = sum(value == most for value in values) / count, (1 - _LEVEL) / 2

    def mean(place: int) -> float:
        return least + (most - least) * place / count

    return mean(_quantile(count, chance, tail)), mean(count - _quantile(count, 1 - chance, tail))


def _quantile(count: int, chance: float, share: float) -> int:
    """The least number of successes in ``count`` trials that at least that share of all series stays within."""
    below, place = 0.0, 0
    while True:
        below += math.exp(
            math.lgamma(count + 1)
            - math.lgamma(place + 1)
            - math.lgamma(count - place + 1)
            + place * math.log(chance)
            + (count - place) * math.log1p(-chance)
        )
        if below >= share or place == count:
            return place
        place += 1


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _percent(share: float) -> float:
    return round(100 * share, 2)
