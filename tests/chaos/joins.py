"""The order that a plan allows its steps, worked out again from the outcomes alone.

Each part of the plan is followed from the sequence at which it could begin: a step that has an outcome without having
been due, a join that ended otherwise than its policy says, and a branch that went on after its join was settled are
found. Where the journal cannot tell (an attempt that was waiting when it was given up leaves no trace) the benefit of
the doubt is given.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dspex_bus.subjects import ROUTER_POOL
from dspex_bus.wire import (
    BranchNode,
    CancelRequested,
    LoopNode,
    MapNode,
    Node,
    ParallelNode,
    PipelineNode,
    SequenceNode,
    SessionAccepted,
    SessionEnded,
    SleepNode,
    StepCancelled,
    StepFailed,
    StepSucceeded,
    StepTimedOut,
    TaskNode,
    WaitNode,
)
from dspex_bus.wire.plan import find, members

from .journal import History, Kept
from .times import CLOCK_MS, NEVER, Times, least_delay_ms

Status = Literal["succeeded", "failed", "unknown"]
_OF_THE_RUN = ("missing_field", "output_conflict", "condition_failed", "invalid_input")
"""Errors that no step's outcome shows: the plan's own."""


@dataclass(frozen=True)
class Ran:
    """``unknown``: given up, not begun, or the journal does not tell. ``at``: the sequence of its end. Not ``sure``: it
    succeeded unless it was given up first, which need not have left a trace. Not ``clean``: some of it did not succeed,
    so that it did not either if it was given up."""

    status: Status
    at: int = NEVER
    sure: bool = True
    clean: bool = True


def joins(history: History) -> list[str]:
    """What is wrong with the order of a session's steps, or with its end."""
    accepted, ended = history.accepted, history.ended
    if accepted is None or ended is None or not isinstance(ended.event, SessionEnded):
        return []
    follower = _Follower(history, accepted, ended.sequence)
    root = follower.follow(accepted.plan.root, "", history.events[0].sequence)
    status = ended.event.status
    follower.wrong += follower.strangers(accepted)
    asked = [kept.sequence for kept in history.of(CancelRequested)]
    if status == "cancelled" and root.status == "succeeded" and root.sure and asked and root.at < asked[0]:
        follower.wrong.append(f"it was cancelled, and its steps had succeeded at {root.at}, before that was asked for")
    if status == "succeeded" and root.status != "succeeded":
        follower.wrong.append(f"it succeeded, and its steps had {root.status}")
    code = ended.event.error.code if ended.event.error is not None else ""
    if status == "failed" and root.status == "succeeded" and root.sure and code not in _OF_THE_RUN:
        follower.wrong.append(f"it failed ({code}), and its steps had succeeded")
    if status == "succeeded":
        follower.wrong += follower.kept_outcomes(accepted, ended.event.output or {})
    return follower.wrong


class _Follower:
    def __init__(self, history: History, accepted: SessionAccepted, ended: float) -> None:
        self._ended = ended
        self._outcomes = history.outcomes
        self._times = Times(history)
        self._kept = accepted.kept
        self._deadline_ms = accepted.deadline_ms
        self._input = accepted.input
        self.begun: dict[str, int] = {}
        self._tasks: dict[str, TaskNode | PipelineNode] = {}
        self.ran: dict[str, Ran] = {}
        self.settled: dict[str, float] = {}
        self.wrong: list[str] = []

    def follow(self, node: Node, id: str, began: int) -> Ran:
        self.begun[id] = began
        match node:
            case SequenceNode():
                ran = self._sequence(node, id, began)
            case ParallelNode():
                ran = self._parallel(node, id, began)
            case MapNode():
                ran = self._map(node, id, began)
            case BranchNode():
                ran = self._branch(node, id, began)
            case LoopNode():
                ran = self._loop(node, id, began)
            case _:
                ran = self._step(node, id, began)
        self.ran[id] = ran
        return ran

    def _step(self, node: Node, id: str, began: int) -> Ran:
        if id in self._kept:
            return Ran("succeeded", began)
        outcomes = self._outcomes.get(id, [])
        if not outcomes:
            return Ran("unknown")
        if outcomes[0].sequence <= began:
            self.wrong.append(f"{id} has an outcome at {outcomes[0].sequence}, and could begin at {began}")
        if isinstance(node, TaskNode | PipelineNode):
            self._tasks[id] = node
            self._retried(node, outcomes)
        self.wrong += self._times.of_step(node, id, began, outcomes)
        last = outcomes[-1]
        if isinstance(last.event, StepSucceeded):
            return Ran("succeeded", last.sequence)
        if self._is_too_late(node, last):
            return Ran("failed", last.sequence)
        return Ran("failed", last.sequence) if _is_final(node, last) else Ran("unknown")

    def _retried(self, node: TaskNode | PipelineNode, outcomes: Sequence[Kept]) -> None:
        """No oftener than the policy says, and only what it says may be."""
        for kept, after in itertools.pairwise(outcomes):
            if _is_final(node, kept):
                self.wrong.append(f"{kept.node}.{after.attempt} followed a failure that is final by its policy")
            due_ms = kept.time_ms + least_delay_ms(node.retry, kept)
            if not isinstance(after.event, StepCancelled) and due_ms >= self._deadline_ms + CLOCK_MS:
                self.wrong.append(f"{kept.node}.{after.attempt} was due past the run's deadline")

    def strangers(self, accepted: SessionAccepted) -> Iterator[str]:
        """Outcomes of what the plan has not, or that another wrote than was asked."""
        for id, outcomes in self._outcomes.items():
            node = find(accepted.plan, id)
            for kept in outcomes:
                if not isinstance(node, TaskNode | PipelineNode | SleepNode | WaitNode) and not is_join_s(kept):
                    yield f"{id} has an outcome, and is no step of its plan"
                elif kept.pool != (node.pool if isinstance(node, TaskNode) else ROUTER_POOL):
                    yield f"{id}.{kept.attempt} has an outcome of the pool {kept.pool}"

    def _is_too_late(self, node: Node, last: Kept) -> bool:
        """Whether another attempt may have been due only past the run's deadline: then there is none."""
        if not isinstance(last.event, StepFailed | StepTimedOut) or not isinstance(node, TaskNode | PipelineNode):
            return False
        policy = node.retry
        longest = min(policy.initial_s * policy.factor ** (last.attempt - 1), policy.max_s)
        return last.time_ms + 1000 * longest >= self._deadline_ms

    def _sequence(self, node: SequenceNode, id: str, began: int) -> Ran:
        sure = clean = True
        for place, child in enumerate(node.children):
            ran = self.follow(child, _below(id, place), began)
            sure, clean = sure and ran.sure, clean and ran.clean
            if ran.status != "succeeded":
                for later in range(place + 1, len(node.children)):
                    self._nothing_of(_below(id, later), f"{_below(id, place)} has not succeeded")
                return ran
            began = ran.at
        return Ran("succeeded", began, sure, clean)

    def _parallel(self, node: ParallelNode, id: str, began: int) -> Ran:
        branches = [self.follow(child, _below(id, place), began) for place, child in enumerate(node.children)]
        return self._joined(node, id, branches, len(branches), began)

    def _map(self, node: MapNode, id: str, began: int) -> Ran:
        places = self._places(id)
        items = self._input.get(node.over)
        count = len(items) if isinstance(items, list) else max(places, default=-1) + 1
        if any(place >= count for place in places):
            self.wrong.append(f"{id} ran {max(places) + 1} items of {count}")
        if isinstance(items, list) and node.join.kind == "quorum" and count < _needed(node):
            for place in range(count):
                self._nothing_of(_below(id, place), f"its join {id} takes more than its {count} items")
            return Ran("failed", began)
        branches: list[Ran] = []
        for place in range(count):
            starts = began
            if place >= node.limit:
                ends = sorted(ran.at for ran in branches)
                starts = ends[place - node.limit]
                starts = 0 if starts == NEVER else starts
            branches.append(self.follow(node.body, _below(id, place), starts))
        return self._joined(node, id, branches, count, began)

    def _joined(self, node: ParallelNode | MapNode, id: str, branches: list[Ran], count: int, began: int) -> Ran:
        successes = sorted(ran.at for ran in branches if ran.status == "succeeded")
        failures = sorted(ran.at for ran in branches if ran.status == "failed")
        over = self._deadline(id)
        self.wrong += self._times.of_join(node, id, began, over)
        if len(successes) + len(failures) == count and over > max([began, *successes, *failures]):
            over = NEVER  # a hung router's late proposal: the join had ended
        settled = min(_settled(node, count, successes, failures), over)
        self.settled[id] = settled
        if settled < NEVER:
            self._nothing_begins_after(id, settled)
        status = self._judged(node, over, count, successes, failures)
        if status == "unknown":
            return Ran("unknown")
        known = [ran.at if ran.at < NEVER else self._last_of(_below(id, place)) for place, ran in enumerate(branches)]
        at = max([began, *known, settled if settled < NEVER else 0])
        clean = all(ran.status == "succeeded" and ran.clean for ran in branches)
        return Ran(status, at, all(ran.sure for ran in branches), clean)

    def _last_of(self, id: str) -> float:
        """Where the last of what had begun of a branch was over that the journal does not tell the end of: a join waits
        for its branches, whatever has settled it."""
        return max(
            (
                kept.sequence
                for node, outcomes in self._outcomes.items()
                for kept in outcomes
                if (node == id or node.startswith(f"{id}-")) and kept.sequence < self._ended and not is_join_s(kept)
            ),
            default=0,
        )

    def _judged(self, node: ParallelNode | MapNode, over: int, count: int, good: list[int], bad: list[int]) -> Status:
        join = node.join
        if join.kind in ("any", "quorum"):
            needed = _needed(node)
            if len(good) >= needed and good[needed - 1] < over:
                return "succeeded"
            if count - len(bad) < needed or over < NEVER:
                return "failed"
            return "unknown"
        if join.kind == "best_effort" or join.on_error == "collect":
            return "succeeded" if len(good) + len(bad) == count or over < NEVER else "unknown"
        if bad or over < NEVER:
            return "failed"
        return "succeeded" if len(good) == count else "unknown"

    def _deadline(self, id: str) -> int:
        """Where the join's time was over: in the session's time, not where a router that hung says so after it."""
        for kept in self._outcomes.get(id, []):
            if kept.sequence < self._ended and kept.pool == ROUTER_POOL and isinstance(kept.event, StepTimedOut):
                return kept.sequence
        return NEVER

    def _nothing_begins_after(self, id: str, settled: int) -> None:
        """But for steps that travelled with one which had begun before."""
        for below, began in self.begun.items():
            outcomes = [kept for kept in self._outcomes.get(below, []) if kept.sequence == int(kept.sequence)]
            if below.startswith(f"{id}-") and settled < began < NEVER and outcomes:
                self.wrong.append(f"{below} began at {began}, after its join {id} was settled at {settled}")
        for below, node in self._tasks.items():
            if below.startswith(f"{id}-"):
                self._nothing_is_tried_again_after(node, below, id, settled)

    def _nothing_is_tried_again_after(self, node: TaskNode | PipelineNode, id: str, join: str, settled: int) -> None:
        """An attempt that was still to come when its join was settled is given up."""
        until_ms = self._times.at(settled)
        for kept, after in itertools.pairwise(self._outcomes[id]):
            if isinstance(after.event, StepCancelled):
                continue
            due_ms = kept.time_ms + least_delay_ms(node.retry, kept)
            if kept.sequence > settled or (until_ms is not None and due_ms > until_ms + CLOCK_MS):
                self.wrong.append(f"{id}.{after.attempt} was due after its join {join} was settled at {settled}")

    def _branch(self, node: BranchNode, id: str, began: int) -> Ran:
        chosen = self._places(id)
        if len(chosen) > 1:
            self.wrong.append(f"{id} went more than one way: {sorted(chosen)}")
        bodies = [*(case.body for case in node.cases), *([node.otherwise] if node.otherwise is not None else [])]
        for place in chosen:
            if place < len(bodies):
                return self.follow(bodies[place], _below(id, place), began)
            self.wrong.append(f"{id} went the way {place}, and has {len(bodies)}")
        # No way at all, or one whose first step has no outcome yet.
        return Ran("unknown") if _leaves_a_trace(node) else Ran("succeeded", began, sure=False)

    def _loop(self, node: LoopNode, id: str, began: int) -> Ran:
        rounds = self._places(id)
        if len(rounds) > node.at_most:
            self.wrong.append(f"{id} went round {len(rounds)} times of {node.at_most}")
        clean = True
        for round in range(len(rounds)):
            ran = self.follow(node.body, _below(id, round), began)
            if ran.status != "succeeded":
                for later in range(round + 1, len(rounds)):
                    self._nothing_of(_below(id, later), f"round {round} has not succeeded")
                return ran
            began, clean = ran.at, clean and ran.clean
        if rounds or not _leaves_a_trace(node.body):
            return Ran("succeeded", began, sure=len(rounds) == node.at_most, clean=clean)
        return Ran("unknown")

    def _places(self, id: str) -> set[int]:
        """The items, rounds or ways below ``id`` of which something has ended."""
        prefix = f"{id}-"
        known = (*self._outcomes, *self._kept)
        return {int(node[len(prefix) :].split("-")[0]) for node in known if node.startswith(prefix)}

    def _nothing_of(self, id: str, because: str) -> None:
        for node in self._outcomes:
            if self._outcomes[node] and (node == id or node.startswith(f"{id}-")):
                self.wrong.append(f"{node} ran, and {because}")

    def kept_outcomes(self, accepted: SessionAccepted, output: dict[str, Any]) -> Iterator[str]:
        """A join that is the run's last step and keeps every branch's outcome has them in order, as they were."""
        last = accepted.plan.root.children[-1]
        if not isinstance(last, ParallelNode | MapNode) or last.save_as is None or accepted.plan.output is not None:
            return
        entries = output.get(last.save_as, [])
        for place, entry in enumerate(entries):
            ran = self.ran.get(_below(last.id, place))
            if isinstance(last, MapNode) and entry.get("index") != place:
                yield f"the outcomes of {last.id} are out of order: {entry} at {place}"
            if isinstance(last, ParallelNode) and entry.get("branch") != last.children[place].name:
                yield f"the outcomes of {last.id} are out of order: {entry} at {place}"
            if ran is None or ran.status == "unknown" or not (ran.sure and ran.clean):
                continue
            if ran.at > self.settled[last.id] and ran.at != int(ran.at):
                continue  # given up, before its last steps came back along with one that ran then
            if (entry["status"] == "succeeded") != (ran.status == "succeeded"):
                yield f"{last.id} kept {entry['status']} of branch {place}, which had {ran.status}"


def is_join_s(kept: Kept) -> bool:
    """A join is no attempt: a router that hung may say late that its time is over, and it means nothing."""
    told = isinstance(kept.event, StepTimedOut) and kept.event.error.code == "join_timed_out"
    return told and kept.pool == ROUTER_POOL


def _below(id: str, place: int) -> str:
    return f"{id}-{place}" if id else str(place)


def _leaves_a_trace(node: Node) -> bool:
    """Whether it cannot succeed without an outcome of some step."""
    match node:
        case SequenceNode():
            return any(map(_leaves_a_trace, node.children))
        case ParallelNode():
            return any(map(_leaves_a_trace, node.children))
        case BranchNode():
            return node.otherwise is not None and all(map(_leaves_a_trace, members(node)))
        case LoopNode() | MapNode():
            return _leaves_a_trace(node.body)
    return True


def _is_final(node: Node, last: Kept) -> bool:
    """Whether no other attempt could have followed a failure."""
    if not isinstance(last.event, StepFailed | StepTimedOut) or not isinstance(node, TaskNode | PipelineNode):
        return True
    error, policy = last.event.error, node.retry
    retried = error.retryable if policy.codes is None else error.code in policy.codes
    return not retried or last.attempt >= policy.attempts


def _needed(node: ParallelNode | MapNode) -> int:
    return 1 if node.join.kind == "any" else node.join.quorum


def _settled(node: ParallelNode | MapNode, count: int, good: Sequence[int], bad: Sequence[int]) -> int:
    """The sequence from which the other branches are not needed, by what ended in this one's branches."""
    join = node.join
    if join.kind == "best_effort" or (join.kind == "all" and join.on_error == "collect"):
        return NEVER
    if join.kind == "all":
        return bad[0] if bad else NEVER
    needed = _needed(node)
    enough = good[needed - 1] if len(good) >= needed else NEVER
    too_many = count - needed  # below 0 where the journal does not tell how many items there were
    hopeless = bad[too_many] if 0 <= too_many < len(bad) else NEVER
    return min(enough, hopeless)
