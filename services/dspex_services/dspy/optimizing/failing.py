"""What only fails ends the job with the reason.

DSPy's optimizers take a failure for a bad score and go on: a metric that always raises, or a model without its key,
would come to a program of score 0 in the end, and nobody would know."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dspex_bus.errors import DspexError

from ...errors import BudgetExceeded, StepError
from .control import Control

_PATIENCE = 50
"""So many failures without a success are told before the job's end: the first programs that an optimizer tries may be
ones that a metric cannot read."""
CALLER_GONE = "caller_gone"


class Failing:
    """One kind of work of a job, from its threads: ``with calls.watched(): …`` around each piece of it. ``patience``
    is at least the number of examples, so that one pass over them is always made."""

    def __init__(self, what: str, control: Control, patience: int) -> None:
        self._what = what
        self._control = control
        self._patience = max(_PATIENCE, patience)
        self._worked = False
        self._failures = 0
        self._last: Exception | None = None
        self._lock = threading.Lock()

    @contextmanager
    def watched(self) -> Iterator[None]:
        try:
            yield
        except BudgetExceeded:
            raise
        except Exception as error:
            self._count(error)
            raise
        self._worked = True

    def _count(self, error: Exception) -> None:
        with self._lock:
            self._failures += 1
            self._last = error
            failures = self._failures
        if isinstance(error, DspexError) and error.code == CALLER_GONE:
            # Whatever is scored from now on would be nothing; what was scored before counts.
            self._control.stop("the client that served the metric is gone")
        elif not self._worked and failures >= self._patience:
            self._control.stop(f"{self._what} failed {failures} times and never worked")

    def check(self) -> None:
        """Raises StepError where it was tried and never worked."""
        error = self._last
        if error is None or self._worked:
            return
        said = error.message if isinstance(error, DspexError) else f"{type(error).__name__}: {error}"
        raise StepError(
            f"{self._what} failed at each of {self._failures} tries; the last time: {said}",
            code=error.code if isinstance(error, DspexError) else "metric_failed",
            retryable=isinstance(error, DspexError) and error.retryable,
            details=error.details if isinstance(error, DspexError) else {},
        ) from error
