"""Plans and sessions for tests of the core: every test builds its own from these."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import msgspec

from dspex_bus.context import Context
from dspex_bus.subjects import ROUTER_POOL
from dspex_bus.wire import (
    BranchNode,
    CancelRequested,
    Case,
    ErrorInfo,
    Join,
    JournalEvent,
    LoopNode,
    MapNode,
    Node,
    ParallelNode,
    PipelineNode,
    Plan,
    RetryPolicy,
    SequenceNode,
    SessionAccepted,
    SessionEnded,
    SessionPaused,
    SessionResumed,
    SignalReceived,
    SleepNode,
    StepCancelled,
    StepFailed,
    StepLost,
    StepOutcome,
    StepSucceeded,
    StepTimedOut,
    TaskNode,
    WaitNode,
)
from dspex_router.core import (
    Command,
    DeadlinePassed,
    Event,
    Recorded,
    RecordEnd,
    RecordOutcome,
    RetryDue,
    Session,
    StepDue,
    decide,
)
from dspex_router.core.state import Counts, MapRun, ParallelRun, Run, RunBase, StepRun

POOL = "native"
ACCEPTED_MS = 1_000
DEADLINE_MS = 1_000_000
NO_RETRY = RetryPolicy(attempts=1)


def steady(attempts: int, delay_s: float = 1.0, **more: Any) -> RetryPolicy:
    """Every delay the same."""
    return RetryPolicy(attempts=attempts, initial_s=delay_s, factor=1, max_s=delay_s, jitter=0, **more)


def task(id: str, *, retry: RetryPolicy = NO_RETRY, **more: Any) -> TaskNode:
    return TaskNode(
        id=id,
        **{"name": f"step {id}", "pool": POOL, "handler": "h", "implementation": "native", "timeout_ms": 5_000, **more},
        retry=retry,
    )


def sequence(id: str, *children: Node) -> SequenceNode:
    return SequenceNode(id=id, name=f"sequence {id}", children=children)


def parallel(id: str, *children: Node, save_as: str | None = None, **join: Any) -> ParallelNode:
    return ParallelNode(id=id, name=f"parallel {id}", children=children, save_as=save_as, join=Join(**join))


def mapped(id: str, *body: Node, save_as: str | None = None, limit: int = 16, **more: Any) -> MapNode:
    """Over the list ``items``; the nodes of ``body`` have ids below ``<id>-n``."""
    given = {"over": "items", "item": "item", "columns": (), **more}
    join = Join(**{name: given.pop(name) for name in ("kind", "quorum", "on_error", "timeout_ms") if name in given})
    return MapNode(
        id=id, name=f"map {id}", body=sequence(f"{id}-n", *body), limit=limit, save_as=save_as, join=join, **given
    )


def branch(id: str, *cases: tuple[str, Node], otherwise: Node | None = None) -> BranchNode:
    """Each case a condition and the one node of its body."""
    bodies = [sequence(f"{id}-{place}", node) for place, (_, node) in enumerate(cases)]
    return BranchNode(
        id=id,
        name=f"branch {id}",
        cases=tuple(Case(when=when, body=body) for (when, _), body in zip(cases, bodies, strict=True)),
        otherwise=None if otherwise is None else sequence(f"{id}-{len(cases)}", otherwise),
    )


def loop(id: str, *body: Node, until: str = "done", at_most: int = 3) -> LoopNode:
    return LoopNode(id=id, name=f"loop {id}", body=sequence(f"{id}-n", *body), until=until, at_most=at_most)


def sleep(id: str, duration_ms: int = 1_000) -> SleepNode:
    return SleepNode(id=id, name=f"sleep {id}", duration_ms=duration_ms)


def wait(id: str, signal: str = "go", **more: Any) -> WaitNode:
    return WaitNode(id=id, name=f"wait {id}", signal=signal, **more)


def pipeline(id: str, *steps: Node, retry: RetryPolicy = NO_RETRY, **more: Any) -> PipelineNode:
    return PipelineNode(id=id, name=f"pipeline {id}", plan=plan(*steps or (task("0"),)), retry=retry, **more)


def plan(*steps: Node, output: tuple[str, ...] | None = None) -> Plan:
    return Plan(pipeline="p", digest="d", root=SequenceNode(id="root", name="p", children=steps), output=output)


def accepted(
    *steps: Node,
    input: dict[str, Any] | None = None,
    output: tuple[str, ...] | None = None,
    deadline_ms: int = DEADLINE_MS,
    **more: Any,
) -> SessionAccepted:
    return SessionAccepted(
        session="s1", plan=plan(*steps, output=output), input=input or {}, deadline_ms=deadline_ms, **more
    )


def error(code: str = "broken", *, retryable: bool = False) -> ErrorInfo:
    return ErrorInfo(code=code, message=f"it is {code}", retryable=retryable)


class Fold:
    """A session fed by hand. Each method returns the commands that its event gave; an event comes a millisecond after
    the last unless ``at_ms`` says when. ``journal`` is what was stored."""

    def __init__(self, *steps: Node, **more: Any) -> None:
        self.now_ms = ACCEPTED_MS
        self.journal: list[Recorded] = []
        self.first = self._stored(accepted(*steps, **more), at_ms=ACCEPTED_MS)
        self.state, self.opening = decide(None, self.first)

    def run(self, node: str) -> StepRun:
        run = self.state.runs[node]
        assert isinstance(run, StepRun)
        return run

    def statuses(self) -> dict[str, str]:
        return {node: run.status for node, run in self.state.runs.items()}

    # --- what is stored ---

    def succeed(self, node: str, outputs: Mapping[str, Any] | None = None, **more: Any) -> list[Command]:
        return self.outcome(node, StepSucceeded(outputs=dict(outputs or {})), **more)

    def fail(
        self, node: str, code: str = "broken", *, retryable: bool = False, retry_after_ms: int = 0, **more: Any
    ) -> list[Command]:
        failed = StepFailed(error=error(code, retryable=retryable), retry_after_ms=retry_after_ms)
        return self.outcome(node, failed, **more)

    def time_out(self, node: str, *, retryable: bool = False, **more: Any) -> list[Command]:
        return self.outcome(node, StepTimedOut(error=error("step_timed_out", retryable=retryable)), **more)

    def lose(self, node: str, **more: Any) -> list[Command]:
        return self.outcome(node, StepLost(error=error("worker_lost", retryable=True), deliveries=3), **more)

    def abandoned(self, node: str, reason: str, **more: Any) -> list[Command]:
        return self.outcome(node, StepCancelled(reason=reason), **more)

    def outcome(
        self,
        node: str,
        outcome: StepOutcome,
        *,
        attempt: int | None = None,
        pool: str | None = None,
        at_ms: int | None = None,
    ) -> list[Command]:
        """Of the current attempt, and by the pool that has it, unless others are named."""
        run = self.state.runs.get(node)
        if attempt is None:
            attempt = run.attempt if isinstance(run, StepRun) else 1
        if pool is None:
            pool = POOL if run is None or isinstance(run.node, TaskNode) else ROUTER_POOL
        return self.feed(self._stored(outcome, pool=pool, node=node, attempt=attempt, at_ms=at_ms))

    def cancel(self, reason: str = "", *, at_ms: int | None = None) -> list[Command]:
        return self.feed(self._stored(CancelRequested(reason=reason), at_ms=at_ms))

    def pause(self, *, at_ms: int | None = None) -> list[Command]:
        return self.feed(self._stored(SessionPaused(), at_ms=at_ms))

    def go_on(self, *, at_ms: int | None = None) -> list[Command]:
        return self.feed(self._stored(SessionResumed(), at_ms=at_ms))

    def signal(
        self, name: str = "go", id: str = "1", payload: dict[str, Any] | None = None, *, at_ms: int | None = None
    ) -> list[Command]:
        return self.feed(self._stored(SignalReceived(name=name, id=id, payload=payload or {}), at_ms=at_ms))

    def proposed(self, commands: list[Command]) -> list[Command]:
        """Store the one outcome that is proposed in ``commands``."""
        (command,) = [command for command in commands if isinstance(command, RecordOutcome)]
        return self.outcome(command.node, command.outcome, pool=command.pool, attempt=command.attempt)

    def end(self, ended: SessionEnded | None = None, *, at_ms: int | None = None) -> list[Command]:
        """What the session proposed, unless another is given."""
        ended = ended or self.state.proposed
        assert ended is not None
        return self.feed(self._stored(ended, at_ms=at_ms))

    # --- what the clock says ---

    def retry_due(self, node: str, *, attempt: int | None = None) -> list[Command]:
        run = self.run(node)
        self.now_ms = max(self.now_ms, run.due_ms)
        return self.feed(RetryDue(time_ms=run.due_ms, node=node, attempt=attempt or run.attempt))

    def due(self, node: str) -> list[Command]:
        """A sleep, a wait or a join whose time is over."""
        run = self.state.runs[node]
        due_ms = run.due_ms if isinstance(run, StepRun) else run.started_ms
        if isinstance(run, ParallelRun | MapRun):
            due_ms += run.node.join.timeout_ms
        self.now_ms = max(self.now_ms, due_ms)
        return self.feed(StepDue(time_ms=due_ms, node=node))

    def deadline(self) -> list[Command]:
        self.now_ms = max(self.now_ms, self.state.accepted.deadline_ms)
        return self.feed(DeadlinePassed(time_ms=self.state.accepted.deadline_ms))

    def feed(self, event: Event) -> list[Command]:
        self.state, commands = decide(self.state, event)
        return commands

    def again(self) -> Session:
        """The journal, folded from the start."""
        return fold(self.journal)

    def _stored(
        self, event: JournalEvent, *, pool: str = "", node: str = "", attempt: int = 0, at_ms: int | None = None
    ) -> Recorded:
        self.now_ms = self.now_ms + 1 if at_ms is None else max(self.now_ms, at_ms)
        recorded = Recorded(
            sequence=10 * (len(self.journal) + 1),
            time_ms=self.now_ms,
            event=event,
            partition=7,
            pool=pool,
            node=node,
            attempt=attempt,
        )
        self.journal.append(recorded)
        return recorded


def fold(journal: list[Recorded]) -> Session:
    state: Session | None = None
    for recorded in journal:
        state, _ = decide(state, recorded)
    assert state is not None
    return state


def only_end(commands: list[Command]) -> SessionEnded:
    """The end that is proposed, and nothing else is."""
    (command,) = commands
    assert isinstance(command, RecordEnd)
    return command.ended


def snapshot(state: Session, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """All that a session holds, as a value to compare, but for the fields named."""
    found = {
        name: _plain(getattr(state, name)) for name in state.__struct_fields__ if name not in ("runs", "root", *without)
    }
    runs = {"root": state.root, **state.runs}
    return {**found, "runs": {node: _run(run, without) for node, run in runs.items()}}


def copied(value: Any, known: dict[int, Any] | None = None) -> Any:
    """A session apart from the one that is folded on: ``copy.deepcopy`` cannot do Structs that know each other."""
    known = {} if known is None else known
    if id(value) in known:
        return known[id(value)]
    if isinstance(value, dict):
        known[id(value)] = fresh = {}
        fresh.update({key: copied(item, known) for key, item in value.items()})
        return fresh
    if isinstance(value, list):
        return [copied(item, known) for item in value]
    if isinstance(value, Context | Session | RunBase | Counts):
        known[id(value)] = twin = copy.copy(value)
        for name in ("base", "fields", "hidden") if isinstance(value, Context) else value.__struct_fields__:
            setattr(twin, name, copied(getattr(value, name), known))
        return twin
    return value  # all else never changes


def _run(run: Run, without: tuple[str, ...]) -> dict[str, Any]:
    names = set(run.__struct_fields__) - {"parent", "node", *without}
    return {name: _plain(getattr(run, name)) for name in sorted(names)}


def _plain(value: Any) -> Any:
    """Runs by their id, contexts by what they hold, the rest as it is encoded."""
    if isinstance(value, Context):
        return value.whole()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, RunBase):
        return value.id
    return msgspec.to_builtins(value)
