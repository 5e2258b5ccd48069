"""Which sentences of the given passages speak to a question: plain lexical scoring, rare words weigh more."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import pairwise

from .passages import Passage
from .words import sentences, terms

_PASSAGE_SHARE = 0.3  # how much a sentence gains from the rest of its passage
_NAME_SHARE = (
    0.2  # what the name of a passage counts for, such as a heading, where its sentences have no word asked for
)
_PAIR_BONUS = 0.5
_REFERENCE_SHARE = 0.7  # how much of the sentence before counts for one that starts with a pronoun
_KEPT = 0.7  # a further sentence must score this share of the best
_FRAGMENT, _FRAGMENT_SHARE = 3, 0.4
_COMFORTABLE = 50  # words; longer sentences pay for their length
_REFERS_BACK = re.compile(r"(?:It|Its|They|Their|This|These|That|He|His|She|Her|Both)\b")


@dataclass(frozen=True)
class Evidence:
    """A sentence, where it stands (passage and position, from 0) and how well it matches."""

    sentence: str
    passage: int
    position: int
    score: float
    matched: frozenset[str]


def rank(question: str, given: Sequence[Passage]) -> list[Evidence]:
    """Every sentence of ``given``, best first; without a match in the question all score 0 and keep their order."""
    split = [sentences(passage.text) for passage in given]
    scorer = _Scorer(question, [sentence for group in split for sentence in group])
    found: list[Evidence] = []
    for index, group in enumerate(split):
        named = set(terms(given[index].name or ""))
        around = named | set(terms(given[index].text))
        for position, sentence in enumerate(group):
            before = group[position - 1] if position and _REFERS_BACK.match(sentence) else ""
            score, matched = scorer.score(sentence, before, around, named)
            found.append(Evidence(sentence, index, position, score, matched))
    return sorted(found, key=lambda one: (-one.score, one.passage, one.position))


class _Scorer:
    """The question's terms and pairs of neighbours, and what each term weighs among all sentences."""

    def __init__(self, question: str, among: Sequence[str]) -> None:
        self._wanted = list(dict.fromkeys(terms(question)))
        self._pairs = set(pairwise(self._wanted))
        seen = Counter(term for sentence in among for term in set(terms(sentence)))
        self._weight = {term: math.log(1 + len(among) / (1 + seen[term])) for term in self._wanted}

    def score(self, sentence: str, before: str, around: Set[str], named: Set[str]) -> tuple[float, frozenset[str]]:
        """The sentence's score and the terms it matches; ``before`` is the sentence that its pronoun refers to."""
        own = terms(sentence)
        matched = frozenset(self._wanted) & frozenset(own)
        if not matched:
            return _NAME_SHARE * self._worth(named) * _fitness(sentence), matched
        score = self._worth(matched) + _PAIR_BONUS * len(self._pairs & set(pairwise(own)))
        score += _REFERENCE_SHARE * self._worth(set(terms(before)) - matched)
        score += _PASSAGE_SHARE * self._worth(around)
        return score * _fitness(sentence), matched

    def _worth(self, present: Set[str]) -> float:
        return sum(self._weight[term] for term in self._wanted if term in present)


def _fitness(sentence: str) -> float:
    """Fragments such as table cells answer little; a long sentence says much besides the answer."""
    length = len(sentence.split())
    if length <= _FRAGMENT and not sentence.endswith((".", "!")):
        return _FRAGMENT_SHARE
    return _COMFORTABLE / max(_COMFORTABLE, length)


def best(question: str, given: Sequence[Passage], limit: int = 3) -> list[Evidence]:
    """The few sentences that answer, in reading order of the best passage first; empty when nothing matches."""
    ranked = rank(question, given)
    if not ranked or ranked[0].score == 0:
        return []
    homes = {_words_of(one): one for one in reversed(ranked) if given[one.passage].name}
    chosen: dict[str, Evidence] = {}
    for one in ranked:
        if len(chosen) == limit or one.score < _KEPT * ranked[0].score:
            break
        # What notes without a name repeat is cited where it comes from.
        chosen.setdefault(_words_of(one), homes.get(_words_of(one), one))
    first = next(iter(chosen.values())).passage
    return sorted(chosen.values(), key=lambda one: (one.passage != first, one.passage, one.position))


def _words_of(one: Evidence) -> str:
    return one.sentence.rstrip(".")


def central(given: Sequence[Passage], limit: int = 3) -> list[str]:
    """The sentences that say most of what the whole text says, in reading order; the first of a text counts more."""
    all_sentences = [sentence for passage in given for sentence in sentences(passage.text)]
    counts = Counter(term for sentence in all_sentences for term in set(terms(sentence)))

    def weight(index: int) -> float:
        own = set(terms(all_sentences[index]))
        centrality = sum(counts[term] - 1 for term in own) / (8 + len(own))
        return centrality + (1.0 if index == 0 else 0.0) - (1.0 if len(own) < 3 else 0.0)

    order = sorted(range(len(all_sentences)), key=lambda index: (-weight(index), index))
    return [all_sentences[index] for index in sorted(order[:limit])]
