"""What SIMBA has tried: it runs its candidates itself, past DSPy's evaluation and what that tells."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dspy.teleprompt import simba

from .tracking import Tracker


@contextmanager
def sampling_told(tracker: Tracker) -> Iterator[None]:
    """Every SIMBA of this process within: a worker runs one job."""
    wrap = simba.wrap_program
    batches: dict[int, _Batch] = {}

    def told(program: Any, metric: Callable[..., Any]) -> Callable[[Any], dict[str, Any]]:
        batch = batches.get(id(program))
        if batch is None or batch.left == 0:
            batch = batches[id(program)] = _Batch(program, tracker)
        return batch.counting(wrap(program, metric))

    simba.wrap_program = told
    try:
        yield
    finally:
        simba.wrap_program = wrap


class _Batch:
    """A program on the examples it is tried on: all are known before the first is run. On one alone it is a sample, of
    which SIMBA makes candidates, and no trial."""

    def __init__(self, program: Any, tracker: Tracker) -> None:
        self.left = 0
        self._program = program
        self._tracker = tracker
        self._scores: list[float] = []
        self._begun = False
        self._lock = threading.Lock()

    def counting(self, run: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
        self.left += 1

        def counted(example: Any) -> dict[str, Any]:
            self._begin()
            answer = run(example)
            self._end(float(answer["score"]))
            return answer

        return counted

    def _begin(self) -> None:
        with self._lock:
            begun, self._begun = self._begun, True
        if not begun and self.left > 1:
            self._tracker.begin(self, self._program, self.left)

    def _end(self, score: float) -> None:
        with self._lock:
            self._scores.append(score)
            self.left -= 1
            over = self.left == 0 and len(self._scores) > 1
        if over:
            self._tracker.end(self, 100 * sum(self._scores) / len(self._scores))
