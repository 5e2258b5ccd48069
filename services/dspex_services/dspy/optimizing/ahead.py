"""Bootstrapping side by side.

DSPy tries one example after the other until enough of them succeeded. To get ``n`` more successes takes at least ``n``
more examples, so that many are called at once, ahead of DSPy's own loop, which then finds every reply in the cache:
the same calls, the same demos, in the time of the slowest."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import dspy
from dspy.teleprompt.bootstrap import BootstrapFewShot


@contextmanager
def bootstrapping_ahead(threads: int) -> Iterator[None]:
    """Every bootstrapping of this process within, those inside other optimizers too: a worker runs one job."""
    loop, one = BootstrapFewShot._bootstrap, BootstrapFewShot._bootstrap_one_example

    def begin(self: Any, **given: Any) -> Any:
        self._dspex_ahead = _Ahead(self, given.get("max_bootstraps") or self.max_bootstrapped_demos, threads)
        return loop(self, **given)

    def example(self: Any, example: Any, round_idx: int = 0) -> Any:
        if round_idx == 0:
            self._dspex_ahead.reached(example)
        success = one(self, example, round_idx)
        self._dspex_ahead.successes += bool(success)
        return success

    BootstrapFewShot._bootstrap, BootstrapFewShot._bootstrap_one_example = begin, example
    try:
        yield
    finally:
        BootstrapFewShot._bootstrap, BootstrapFewShot._bootstrap_one_example = loop, one


class _Ahead:
    def __init__(self, optimizer: Any, wanted: int, threads: int) -> None:
        self.successes = 0
        self._optimizer = optimizer
        self._wanted = wanted
        self._threads = threads
        self._place = 0
        self._called = 0

    def reached(self, example: Any) -> None:
        """DSPy's loop is at its next example."""
        if self._place >= self._called:
            batch = self._optimizer.trainset[self._place : self._place + self._wanted - self.successes]
            self._called = self._place + len(batch)
            if len(batch) > 1:
                self._call(batch)
        self._place += 1

    def _call(self, batch: Sequence[Any]) -> None:
        with ThreadPoolExecutor(min(self._threads, len(batch)), thread_name_prefix="ahead") as pool:
            calls = [pool.submit(contextvars.copy_context().run, self._one, example) for example in batch]
        for call in calls:
            error = call.exception()
            if error is not None and not isinstance(error, Exception):
                raise error  # the job was stopped; what else went wrong DSPy's own loop finds as well

    def _one(self, example: Any) -> None:
        """As DSPy's loop calls it: without the example itself among the demos."""
        teacher = self._optimizer.teacher.deepcopy()
        for predictor in teacher.predictors():
            predictor.demos = [demo for demo in predictor.demos if demo != example]
        with dspy.context(trace=[], **self._optimizer.teacher_settings):
            teacher(**example.inputs())
