"""What must not have come before its time: sleeps, waits, joins that were not joined, and attempts after failures.

All of it by the stamps of the bus, which are one clock's.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from dspex_bus.wire import (
    MapNode,
    Node,
    ParallelNode,
    PipelineNode,
    RetryPolicy,
    SignalReceived,
    SleepNode,
    StepCancelled,
    StepFailed,
    StepSucceeded,
    StepTimedOut,
    TaskNode,
    WaitNode,
)

from .journal import History, Kept

NEVER = 2**62
CLOCK_MS = 2
"""Times of one host's processes, rounded to milliseconds, may seem out of order by that much."""


def least_delay_ms(policy: RetryPolicy, failed: Kept) -> float:
    """The least that must pass before another attempt, whatever the jitter."""
    longest_s = min(policy.initial_s * policy.factor ** (failed.attempt - 1), policy.max_s)
    asked = failed.event.retry_after_ms if isinstance(failed.event, StepFailed) else 0
    return max(1000 * longest_s * (1 - policy.jitter), asked)


class Times:
    """Of one session, whose parts could begin at sequences that are known, or 0 where they are not."""

    def __init__(self, history: History) -> None:
        self._at = {int(kept.sequence): kept.time_ms for kept in history.events}
        self._signals = [kept.event for kept in history.of(SignalReceived) if isinstance(kept.event, SignalReceived)]

    def at(self, sequence: float) -> int | None:
        """None where it is none of the session's."""
        return self._at.get(int(sequence))

    def of_step(self, node: Node, id: str, began: float, outcomes: Sequence[Kept]) -> Iterator[str]:
        if isinstance(node, TaskNode | PipelineNode):
            for kept, after in itertools.pairwise(outcomes):
                if not isinstance(after.event, StepCancelled):
                    yield from _early(f"{id}.{after.attempt}", after, kept.time_ms + least_delay_ms(node.retry, kept))
            return
        began_ms, first = self.at(began), outcomes[0]
        if began_ms is None:
            return
        if isinstance(node, SleepNode) and isinstance(first.event, StepSucceeded):
            yield from _early(id, first, began_ms + node.duration_ms)
        if isinstance(node, WaitNode) and self._ran_out(node, first):
            yield from _early(id, first, began_ms + node.timeout_ms)

    def _ran_out(self, node: WaitNode, outcome: Kept) -> bool:
        """Whether a wait ended because no signal came."""
        if isinstance(outcome.event, StepTimedOut):
            return True
        if not isinstance(outcome.event, StepSucceeded) or outcome.event.outputs != node.default:
            return False
        return all((said.name, said.payload) != (node.signal, node.default) for said in self._signals)

    def of_join(self, node: ParallelNode | MapNode, id: str, began: float, over: float) -> Iterator[str]:
        """``over``: where it is said that the join's time was."""
        began_ms, over_ms = self.at(began), self.at(over)
        if over_ms is not None and not node.join.timeout_ms:
            yield f"the time of {id} was over at {over}, and it has none"
        elif over_ms is not None and began_ms is not None:
            early_ms = began_ms + node.join.timeout_ms - over_ms
            if early_ms > CLOCK_MS:
                yield f"the time of {id} was over {early_ms} ms before it was due"


def _early(what: str, kept: Kept, due_ms: float) -> Iterator[str]:
    if due_ms - kept.time_ms > CLOCK_MS:
        yield f"{what} has an outcome {due_ms - kept.time_ms:.0f} ms before it was due"
