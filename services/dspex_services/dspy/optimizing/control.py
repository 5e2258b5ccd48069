"""What a job may still spend, and its end: looked at before every call, from whatever thread makes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Literal

from dspex_bus.wire import Usage

from ...budgets import amount, together
from ...handlers import Step
from ...optimizing.job import Budget
from ..metering import Meter, Stopped

ENDED = "ended"
"""Why a job that came to its end is stopped: what still runs of it is not wanted."""

Phase = Literal["starting", "bootstrapping", "proposing", "evaluating", "scoring", "done"]


class Control:
    """``spent`` is what the job paid before; ``began`` is when it first started, in seconds since the epoch. ``fresh``
    turns true with the first call that is paid now: a restart that only repeats what is kept does not."""

    def __init__(self, budget: Budget, spent: Usage, began: float) -> None:
        self.reason = ""
        self.examples = 0
        self.fresh = False
        self._budget = budget
        self._spent = spent
        self._ends = began + budget.seconds if budget.seconds else None
        self._going = 0
        self._pending: set[Future[Any]] = set()
        self._changed = threading.Condition()

    @property
    def spent(self) -> Usage:
        return self._spent

    @property
    def stopped(self) -> bool:
        return bool(self.reason)

    def stop(self, reason: str) -> None:
        """Let no further call be made, and give up those that are waited for. From any thread."""
        with self._changed:
            self.reason = self.reason or reason
            pending = list(self._pending)
            self._changed.notify_all()
        for future in pending:
            future.cancel()

    def look_at_the_clock(self) -> None:
        if self._ends is not None and time.time() >= self._ends:
            self.stop("budget: seconds")

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around a call. Raises Stopped where there is none left; near the end calls wait for those that are going, of
        which some may turn out to be paid for already."""
        with self._changed:
            while True:
                self.look_at_the_clock()
                if self.reason:
                    raise Stopped
                used_up = self._used_up(self._going)
                if not used_up:
                    break
                if not self._going:
                    self.reason = f"budget: {used_up}"
                    raise Stopped
                self._changed.wait(0.5)
            self._going += 1
        try:
            yield
        finally:
            with self._changed:
                self._going -= 1
                self._changed.notify_all()

    def count(self, usage: Usage | None) -> None:
        if usage is None:
            return
        with self._changed:
            self._spent = self._spent.plus(usage)
            self.fresh = self.fresh or usage.calls > 0

    def wait(self, future: Future[Any]) -> Any:
        """A future's result. Raises Stopped when the job is."""
        with self._changed:
            if self.reason:
                future.cancel()
            self._pending.add(future)
        try:
            return future.result()
        except CancelledError:
            raise Stopped from None
        finally:
            with self._changed:
                self._pending.discard(future)

    def _used_up(self, going: int) -> str:
        budget, spent = self._budget, self._spent
        if budget.calls is not None and spent.calls + going >= budget.calls:
            return "calls"
        if budget.tokens is not None and spent.input_tokens + spent.output_tokens >= budget.tokens:
            return "tokens"
        if budget.usd is not None and (spent.cost or 0.0) >= budget.usd:
            return "usd"
        return ""


class JobMeter(Meter):
    """Counts and bounds the calls that the optimizer itself makes: proposals, reflections, judges."""

    def __init__(self, model: str, step: Step, control: Control, proposing: Callable[[], None]) -> None:
        super().__init__(model, step)
        self._control = control
        self._proposing = proposing
        self._open: dict[str, Any] = {}

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self._proposing()
        around = self._control.call()
        around.__enter__()
        self._open[call_id] = around

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        around = self._open.pop(call_id, None)
        if around is not None:
            around.__exit__(None, None, None)

    async def _entered(self, reserved: AbstractAsyncContextManager[None]) -> None:
        if self._step.ledger is not None:  # what the job's others have used, and its lives before, too
            self._step.ledger.know(amount(together(self._step.used, self._control.spent)))
        await super()._entered(reserved)

    def _count(self, said: Usage) -> None:
        self._control.count(said)

    def _record(self, said: Usage) -> None:
        self._step.pay(said)  # the others' calls are counted where they are made
