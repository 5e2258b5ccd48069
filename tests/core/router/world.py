"""A world in which everything that can go wrong around the core does: workers, children, clients, a store with
create-once slots, a clock, owners that lag behind, die and start again. Who moves next is chosen from outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

from msgspec.structs import replace

from dspex_bus.subjects import ROUTER_POOL
from dspex_bus.wire import (
    CancelRequested,
    Followed,
    JournalEvent,
    SessionAccepted,
    SessionPaused,
    SessionResumed,
    SignalReceived,
    StepCancelled,
    StepFailed,
    StepLost,
    StepOutcome,
    StepSucceeded,
    StepTimedOut,
    TaskNode,
)
from dspex_router.core import (
    Command,
    Dispatch,
    Event,
    Finish,
    Recorded,
    RecordEnd,
    RecordOutcome,
    Session,
    SetTimer,
    StartChild,
    TellCancelled,
    TellChild,
    decide,
    resume,
)
from dspex_router.core.state import JoinRun, StepRun

from .building import ACCEPTED_MS, error

Slot = tuple[str, str, int]
"""Pool, node and attempt of an outcome's; of the session's own: what it is for, a name, a number."""

OUTCOMES: tuple[Callable[[str], StepOutcome], ...] = (
    lambda node: StepSucceeded(outputs={f"of_{node.replace('-', '_')}": 0}),
    lambda node: StepFailed(error=error("busy", retryable=True)),
    lambda node: StepFailed(error=error("busy", retryable=True), retry_after_ms=3_000),
    lambda node: StepFailed(error=error("broken")),
    lambda node: StepTimedOut(error=error("step_timed_out", retryable=True)),
    lambda node: StepCancelled(reason="by hand"),
    lambda node: StepLost(error=error("worker_lost"), deliveries=3),
)


@dataclass
class World:
    """``orderly``: the owner has read everything stored before a timer of its own fires. ``open`` are the attempts that
    are in somebody's hands, ``along`` what went with them; ``proposals`` are what an owner has handed on."""

    accepted: SessionAccepted
    choose: Callable[[int], int]
    orderly: bool
    now_ms: int = ACCEPTED_MS
    journal: list[Recorded] = field(default_factory=list)
    slots: set[Slot] = field(default_factory=set)
    open: list[Slot] = field(default_factory=list)
    along: dict[Slot, tuple[str, ...]] = field(default_factory=dict)
    proposals: list[tuple[Slot, JournalEvent]] = field(default_factory=list)
    timers: list[SetTimer] = field(default_factory=list)
    state: Session | None = None
    read: int = 0
    finished: bool = False

    def __post_init__(self) -> None:
        self.store(("accepted", "", 0), self.accepted)

    # --- what can happen ---

    def moves(self) -> list[Callable[[], None]]:
        """What may happen next."""
        found: list[Callable[[], None]] = [self.time_passes, self.restart, self.client_asks]
        if self.read < len(self.journal):
            found += [self.owner_reads] * 4
        if self.read:
            found.append(self.owner_reads_again)
        if self.open:
            found += [self.attempt_ends] * 4
        if self.proposals:
            found += [self.proposal_is_stored] * 3
        if self.due():
            found += [self.timer_fires] * 2
        return found

    def time_passes(self) -> None:
        self.now_ms += (1, 500, 5_000)[self.choose(3)]

    def owner_reads(self) -> None:
        recorded = self.journal[self.read]
        self.read += 1
        self.tell(recorded)

    def owner_reads_again(self) -> None:
        """A duplicate of something read before: it must mean nothing. (Of pauses the shell lets none through.)"""
        recorded = self.journal[self.choose(self.read)]
        if isinstance(recorded.event, SessionPaused | SessionResumed):
            return
        assert self.state is not None
        ignored = self.state.ignored
        self.state, commands = decide(self.state, recorded)
        assert (commands, self.state.ignored) == ([], ignored + 1)

    def attempt_ends(self) -> None:
        slot = self.open.pop(self.choose(len(self.open)))
        outcome = OUTCOMES[self.choose(len(OUTCOMES))](slot[1])
        along = self.along.get(slot, ())
        if isinstance(outcome, StepSucceeded) and along:
            came = along[: self.choose(len(along) + 1)]
            then = tuple(Followed(node=node, outputs={f"of_{node.replace('-', '_')}": 0}) for node in came)
            outcome = replace(outcome, then=then)
        self.store(slot, outcome)

    def proposal_is_stored(self) -> None:
        self.store(*self.proposals.pop(self.choose(len(self.proposals))))

    def timer_fires(self) -> None:
        if self.orderly:
            self.catch_up()
        due = self.due()
        if due:
            timer = due[self.choose(len(due))]
            self.timers.remove(timer)
            self.tell(timer.event)

    def client_asks(self) -> None:
        """To cancel least often: little happens after that."""
        match self.choose(8):
            case 0:
                self.store(("cancel", "", 0), CancelRequested(reason="enough"))
            case 1 | 2 | 3:
                name, id = ("go", "other")[self.choose(2)], self.choose(9)
                self.store(("signal", name, id), SignalReceived(name=name, id=str(id), payload={"signal": id}))
            case choice:
                self.control(SessionPaused() if choice < 6 else SessionResumed())

    def control(self, event: JournalEvent) -> None:
        controls = sum(isinstance(recorded.event, SessionPaused | SessionResumed) for recorded in self.journal)
        self.store(("control", "", controls), event)

    def restart(self) -> None:
        """The owner is gone, with its timers; what it had handed to the connection may still arrive. The next one reads
        the journal, and does what is still open."""
        if self.proposals and self.choose(2):
            self.proposals.clear()
        self.timers.clear()
        self.state, self.read = None, 0
        while self.read < len(self.journal):
            recorded = self.journal[self.read]
            self.read += 1
            self.state, commands = decide(self.state, recorded)
            self.check(commands)
        assert self.state is not None
        self.perform(resume(self.state))

    # --- what follows from it ---

    def due(self) -> list[SetTimer]:
        return [timer for timer in self.timers if timer.at_ms <= self.now_ms]

    def catch_up(self) -> None:
        while self.read < len(self.journal):
            self.owner_reads()

    def tell(self, event: Event) -> None:
        self.state, commands = decide(self.state, event)
        self.check(commands)
        self.perform(commands)

    def perform(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Dispatch():
                    slot = (command.pool, command.task.node, command.task.attempt)
                    self.along[slot] = tuple(following.node for following in command.task.then)
                    self._send(slot)
                case StartChild():
                    parent = command.accepted.parent
                    assert parent is not None
                    self._send((ROUTER_POOL, parent.node, parent.attempt))
                case RecordOutcome():
                    self.proposals.append(((command.pool, command.node, command.attempt), command.outcome))
                case RecordEnd():
                    self.proposals.append((("end", "", 0), command.ended))
                case SetTimer():
                    self.timers.append(command)
                case TellCancelled() | TellChild():
                    pass
                case Finish():
                    self.finished = True
                    self.timers.clear()
                case _:
                    assert_never(command)

    def _send(self, slot: Slot) -> None:
        """Once: what is open, or has ended, is not sent a second time."""
        if slot not in self.slots and slot not in self.open:
            self.open.append(slot)

    def store(self, slot: Slot, event: JournalEvent) -> None:
        """Whoever comes second is refused."""
        if slot in self.slots:
            return
        self.slots.add(slot)
        self.now_ms += 1
        pool, node, attempt = slot if isinstance(event, StepOutcome) else ("", "", 0)
        self.journal.append(
            Recorded(
                sequence=len(self.journal) + 1,
                time_ms=self.now_ms,
                event=event,
                pool=pool,
                node=node,
                attempt=attempt,
            )
        )

    def check(self, commands: list[Command]) -> None:
        """What must hold after every event."""
        assert self.state is not None
        for command in commands:
            if isinstance(command, Dispatch):
                self._check_follows(command.task.node, command.task.attempt)
            if isinstance(command, RecordEnd):
                assert not any(run.open for run in self.state.runs.values())
        for run in self.state.runs.values():
            if isinstance(run, JoinRun):
                assert all(child.open for child in run.branches.values())
                assert not any(run.results[place] for place in run.branches)
            if isinstance(run, StepRun) and isinstance(run.node, TaskNode):
                assert run.attempt <= run.node.retry.attempts
            assert (run.error is None) == (run.status == "succeeded") or run.open

    def _check_follows(self, node: str, attempt: int) -> None:
        """An attempt is sent only when the one before has ended, and not well."""
        before = [r.event for r in self.journal if r.node == node and r.attempt < attempt]
        assert len(before) == attempt - 1
        assert all(isinstance(outcome, StepFailed | StepTimedOut) for outcome in before)

    # --- to its end ---

    def settle(self) -> None:
        """Everybody does their work until the session has ended and the owner knows."""
        for _ in range(5_000):
            if self.read < len(self.journal):
                self.owner_reads()
            elif self.finished:
                return
            elif self.proposals:
                self.proposal_is_stored()
            elif self.open:
                self.attempt_ends()
            elif self.state is not None and self.state.paused and self.state.phase == "running":
                self.control(SessionResumed())
            else:
                assert self.timers, "nothing will ever happen again"
                self.now_ms = max(self.now_ms, min(timer.at_ms for timer in self.timers))
                self.timer_fires()
        raise AssertionError("it goes on for ever")
