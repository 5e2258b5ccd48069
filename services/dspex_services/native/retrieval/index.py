"""Indexes over folders, built once and kept until a document changes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from .documents import Passage, fingerprint, load

_KEPT = 16


class Index(Protocol):
    def search(self, query: str, k: int) -> list[Passage]:
        """The best ``k`` passages, best first, with their scores."""


I = TypeVar("I", bound=Index)  # noqa: E741


class Indexes(Generic[I]):
    """By folder, the most recently used. Concurrent first users of a folder wait for one build."""

    def __init__(self, build: Callable[[Sequence[Passage]], I]) -> None:
        self._build = build
        self._kept: OrderedDict[Path, tuple[object, I]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, folder: Path) -> I:
        print_ = fingerprint(folder)
        with self._lock:
            held = self._kept.get(folder)
            if held is None or held[0] != print_:
                held = self._kept[folder] = (print_, self._build(load(folder)))
            self._kept.move_to_end(folder)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return held[1]


def best(index: Index, queries: Sequence[str], k: int) -> list[Passage]:
    """The best passages over several queries: each at its best score."""
    found: dict[str, Passage] = {}
    for query in queries:
        for passage in index.search(query, k):
            held = found.get(passage.id)
            if held is None or held.score < passage.score:
                found[passage.id] = passage
    return sorted(found.values(), key=lambda passage: (-passage.score, passage.id))[:k]
