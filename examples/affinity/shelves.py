# Scenario: retrieval and generation in several pools with strict affinity; rehydration after the worker is lost.
# On a running system (dspex up), in this folder: dspex serve shelves:handlers --size 3; then: dspex run ask.yaml …
import re
from collections import Counter

import msgspec

import dspex

handlers = dspex.Handlers()

NOTES = [
    "The okapi lives in the rainforest of the Congo.",
    "The okapi is the only living relative of the giraffe.",
    "A giraffe eats leaves from the tops of acacia trees.",
    "Acacia trees grow in the savanna.",
]

Index = dict[str, set[int]]


class Search(msgspec.Struct, frozen=True, kw_only=True):
    query: str
    k: int = 2


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """``built``: the index had to be made, because this worker did not hold it for the session."""

    passages: list[str]
    worker: str
    built: bool


@handlers.handler("shelves.search")
async def search(request: Search, step: dspex.Step) -> Found:
    """The notes that share most words with the query. The index is kept with the worker, for the session."""
    built = False

    async def build() -> Index:
        nonlocal built
        built = True
        index: Index = {}
        for number, note in enumerate(NOTES):
            for word in words(note):
                index.setdefault(word, set()).add(number)
        return index

    index = await step.hold("index", build)
    hits = Counter(number for word in words(request.query) for number in index.get(word, ()))
    best = [NOTES[number] for number, _ in hits.most_common(request.k)]
    return Found(passages=best, worker=step.worker, built=built)


def words(text: str) -> set[str]:
    return {word for word in re.findall(r"\w+", text.lower()) if len(word) > 3}
