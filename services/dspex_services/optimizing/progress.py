"""How far a job is: said while it runs, and kept with its result."""

from __future__ import annotations

import msgspec

from dspex_bus.wire import Usage


class Trial(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One evaluation of a candidate: ``full`` on the whole set, else on a part of it. ``score`` is in per cent."""

    number: int
    score: float
    examples: int
    full: bool = True


class JobProgress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``trials`` counts those over, ``of`` how many there will be, as far as it is known; ``examples`` the calls of
    programs, ``examples_of`` how many of them there will be where that is what the optimizer is given. ``best`` is of
    full evaluations. ``usage`` counts what was paid since the job's first start; ``left_s`` is an estimate."""

    phase: str
    trials: int = 0
    of: int = 0
    score: float | None = None
    best: float | None = None
    baseline: float | None = None
    examples: int = 0
    examples_of: int = 0
    usage: Usage = Usage()
    took_s: float = 0.0
    left_s: float | None = None
    restarts: int = 0
    history: tuple[Trial, ...] = ()

    @property
    def fraction(self) -> float | None:
        done, of = (self.trials, self.of) if self.of else (self.examples, self.examples_of)
        return min(1.0, done / of) if of else None

    def line(self) -> str:
        """In a few words."""
        parts = [self.phase]
        if self.trials:
            parts.append(f"trial {self.trials}" + (f" of {self.of}" if self.of else ""))
        if self.examples_of:
            parts.append(f"{self.examples} of {self.examples_of} examples")
        if self.best is not None:
            parts.append(f"best {self.best:g}")
        parts.append(f"{self.usage.calls} calls")
        return ", ".join(parts)


def left_s(done: int, of: int, took_s: float) -> float | None:
    """How long the rest takes if it goes on like that."""
    return round((of - done) * took_s / done, 1) if done and of > done else None
