"""Metrics by name that compare a prediction with its example, field by field: no model, no DSPy."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

Compare = Callable[[Any, Any], float]

_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalized(value: Any) -> str:
    """Text without case, punctuation, articles and surplus blanks, as question-answering scores are computed."""
    text = unicodedata.normalize("NFD", str(value)).lower()
    text = "".join(character for character in text if character not in string.punctuation)
    return " ".join(_ARTICLES.sub(" ", text).split())


def exact(expected: Any, given: Any) -> float:
    """1 where both are equal after normalization; of a list of accepted answers, any."""
    if isinstance(expected, list) and not isinstance(given, list):
        return max((exact(one, given) for one in expected), default=0.0)
    if isinstance(expected, str) or isinstance(given, str):
        return float(normalized(expected) == normalized(given))
    return float(expected == given)


def contains(expected: Any, given: Any) -> float:
    """1 where the expected text occurs in the given one."""
    if isinstance(expected, list):
        return max((contains(one, given) for one in expected), default=0.0)
    return float(normalized(expected) in normalized(given))


def f1(expected: Any, given: Any) -> float:
    """The harmonic mean of precision and recall over words."""
    if isinstance(expected, list):
        return max((f1(one, given) for one in expected), default=0.0)
    wanted, found = normalized(expected).split(), normalized(given).split()
    shared = sum((Counter(wanted) & Counter(found)).values())
    return 2 * shared / (len(wanted) + len(found)) if shared else 0.0


COMPARISONS: dict[str, Compare] = {"exact_match": exact, "contains": contains, "f1": f1}


def compare_fields(
    compare: Compare, expected: Mapping[str, Any], given: Mapping[str, Any], field: str | None
) -> tuple[float, str]:
    """The mean over the example's labels, or the one ``field``, and what differs. A label that the prediction lacks
    counts 0."""
    names = [field] if field is not None else [name for name in expected if not name.startswith("dspy_")]
    if not names:
        return 0.0, "the example has no labels to compare with"
    scores = {name: compare(expected.get(name), given[name]) if name in given else 0.0 for name in names}
    wrong = [f"{name} should be {expected.get(name)!r}, not {given.get(name)!r}" for name in names if scores[name] < 1]
    return sum(scores.values()) / len(scores), "; ".join(wrong)
