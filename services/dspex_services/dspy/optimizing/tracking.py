"""What an optimizer has tried so far, as DSPy's own callbacks tell it: trials, scores, the best program."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping
from typing import Any

import dspy
import msgspec

from ...optimizing.progress import JobProgress, Trial, left_s
from .control import Control, Phase
from .remote import state_of

_HISTORY = 500
"""Trials that a message tells."""


class Tracker(dspy.utils.callback.BaseCallback):  # type: ignore[misc]
    """Used from the optimizer's threads; ``progress`` and ``best`` from any. ``initial`` is the program that was there
    before; ``of`` how many evaluations there will be, ``examples_of`` how many calls of programs, 0 where that is not
    known."""

    def __init__(self, control: Control, initial: Any, began: float, restarts: int) -> None:
        self.of = 0
        self.examples_of = 0
        self.phase: Phase = "starting"
        self._control = control
        self._began = began
        self._restarts = restarts
        self._initial = _key(state_of(initial))
        self._trials: list[Trial] = []
        self._scores: dict[str, float] = {}
        self._best: tuple[float, int, dict[str, Any]] | None = None
        self._baseline: float | None = None
        self._going: dict[Any, tuple[Any, int]] = {}
        self._lock = threading.Lock()
        self.changes = 0

    @property
    def best(self) -> tuple[float, dict[str, Any]] | None:
        """Of the programs evaluated on as many examples as any the best one's score, in per cent, and its state."""
        with self._lock:
            return None if self._best is None else (self._best[0], self._best[2])

    @property
    def baseline(self) -> float | None:
        return self._baseline

    @property
    def history(self) -> tuple[Trial, ...]:
        with self._lock:
            return tuple(self._trials)

    def score_of(self, state: dict[str, Any]) -> float | None:
        """The score of a program that has been evaluated in full."""
        return self._scores.get(_key(state))

    def proposing(self) -> None:
        """The optimizer asks a model itself."""
        if not self._going:
            self._enter("proposing")

    def calling(self) -> None:
        """A program is called."""
        if not self._going:
            self._enter("bootstrapping")
        self._control.examples += 1
        self.changes += 1

    def _enter(self, phase: Phase) -> None:
        if self.phase not in (phase, "scoring"):
            self.phase = phase
            self.changes += 1

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self.begin(call_id, inputs["program"], len(inputs.get("devset") or instance.devset))

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        self.end(call_id, None if exception is not None else float(outputs.score))

    def begin(self, trial: Any, program: Any, size: int) -> None:
        """A program is tried on so many examples."""
        with self._lock:
            self._going[trial] = (program, size)
        self._enter("evaluating")

    def end(self, trial: Any, score: float | None) -> None:
        """Its score, in per cent; None where it was broken off."""
        with self._lock:
            program, size = self._going.pop(trial)
            if score is not None:
                self._take(program, size, score)
        self.changes += 1

    def _take(self, program: Any, size: int, score: float) -> None:
        largest = self._best[1] if self._best is not None else 0
        full = size >= largest
        self._trials.append(Trial(number=len(self._trials) + 1, score=score, examples=size, full=full))
        if not full:
            return
        if size > largest:
            self._scores.clear()
            self._best = None
        state = state_of(program)
        key = _key(state)
        self._scores[key] = score
        if key == self._initial:
            self._baseline = score
        if self._best is None or score > self._best[0]:
            self._best = (score, size, state)

    def progress(self) -> JobProgress:
        with self._lock:
            trials, best = self._trials[-_HISTORY:], self._best
            done = len(self._trials)
        took = time.time() - self._began
        going = (done, self.of) if self.of else (self._control.examples, self.examples_of)
        return JobProgress(
            phase=self.phase,
            trials=done,
            of=max(self.of, done) if self.of else 0,
            score=trials[-1].score if trials else None,
            best=None if best is None else best[0],
            baseline=self._baseline,
            examples=self._control.examples,
            examples_of=self.examples_of,
            usage=self._control.spent,
            took_s=round(took, 2),
            left_s=left_s(*going, took),
            restarts=self._restarts,
            history=tuple(trials),
        )


_encode = msgspec.json.Encoder(order="deterministic").encode


def _key(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(_encode(state)).hexdigest()
