"""What a pool does next: whom it starts, replaces and lets go. Pure: no clock, no processes."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from ..worker.spec import PoolSpec

_MIB = 2**20
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 10.0
_STEADY = 10.0
_STEADY_S = (1.0, 30.0)


@dataclass(frozen=True, slots=True)
class Seen:
    """A worker as its pool sees it, numbered by age. ``ready``: it serves; ``due``: it is to be replaced."""

    number: int
    ready: bool
    due: bool = False
    busy: int = 0


@dataclass(frozen=True, slots=True)
class Moves:
    start: int = 0
    retire: tuple[int, ...] = ()


def moves(workers: Sequence[Seen], wanted: int) -> Moves:
    """As many workers that are not due as are wanted. Who is too many leaves, once those that stay are ready: the due
    first, then the idle. So a replacement serves before the old one leaves."""
    fresh = sum(not worker.due for worker in workers)
    ready = [worker for worker in workers if worker.ready]
    order = sorted(ready, key=lambda worker: (not worker.due, worker.busy if not worker.due else 0, worker.number))
    too_many = max(0, len(ready) - wanted)
    return Moves(start=max(0, wanted - fresh), retire=tuple(worker.number for worker in order[:too_many]))


def replacements_at_once(wanted: int) -> int:
    """A quarter of a pool: its workers were started together, and would be replaced together."""
    return max(1, wanted // 4)


def overdue(spec: PoolSpec, *, done: int, age_s: float, memory_bytes: int) -> str:
    """Why a worker is to be replaced, '' where it is not."""
    if spec.recycle_after_tasks and done >= spec.recycle_after_tasks:
        return f"it has done {done} tasks"
    if spec.recycle_after_s and age_s >= spec.recycle_after_s:
        return f"it is {age_s:.0f} s old"
    # One that needs so much before its first task would be replaced for ever.
    if spec.recycle_over_mb and done and memory_bytes > spec.recycle_over_mb * _MIB:
        return f"it has grown to {memory_bytes / _MIB:.0f} MiB"
    return ""


def how_it_ended(code: int | None) -> str:
    """A process, by its exit code."""
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def delay_after(lived_s: float, before_s: float) -> float:
    """How long to wait before the next start: twice as long each time, unless the last worker lived for so long that
    this is no crash loop."""
    shortest, longest = _STEADY_S
    if lived_s > min(longest, max(shortest, _STEADY * before_s)):
        return _FIRST_DELAY_S
    return min(_LONGEST_DELAY_S, max(_FIRST_DELAY_S, 2 * before_s))
