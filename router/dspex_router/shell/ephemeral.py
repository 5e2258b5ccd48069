"""Runs with ``durability: none``: the same core, folded in memory, each attempt a core request. Gone with the
router."""

from __future__ import annotations

import math

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectSendStream

from dspex_bus import Bus, subjects
from dspex_bus.wire import JournalEvent, RunResult, SessionAccepted, Task, Unwanted, encode

from ..core import (
    Command,
    Dispatch,
    Event,
    Finish,
    Recorded,
    RecordEnd,
    RecordOutcome,
    Session,
    SetTimer,
    TellCancelled,
    Timer,
    decide,
)
from ..core.state import JoinRun, StepRun
from .asking import ask


async def run_ephemeral(bus: Bus, accepted: SessionAccepted) -> RunResult:
    """The run's result, at its end."""
    run = _Run(bus, accepted.session)
    with run.came, run.events:
        async with anyio.create_task_group() as run.group:
            result = await run.until_end(accepted)
            run.group.cancel_scope.cancel()
    return result


class _Run:
    group: TaskGroup

    def __init__(self, bus: Bus, session: str) -> None:
        self._bus = bus
        self._session = session
        self._sequence = 0
        self.came, self.events = anyio.create_memory_object_stream[Event](math.inf)
        self._deadlines: list[Timer] = []

    async def until_end(self, accepted: SessionAccepted) -> RunResult:
        state: Session | None = None
        event: Event = self._recorded(accepted)
        while True:
            state, commands = decide(state, event)
            following: Event | None = None
            for command in commands:
                if isinstance(command, Finish):
                    return command.result
                if isinstance(command, Dispatch) and self._alone(state, commands, command):
                    # One thing at a time, as in most runs: no task, no queue.
                    following = await self._attempt(command)
                else:
                    await self._perform(command)
            event = following or await self.events.receive()

    def _alone(self, state: Session, commands: list[Command], command: Dispatch) -> bool:
        """Whether nothing else can happen before this attempt has ended."""
        if command is not commands[-1] or any(isinstance(run, JoinRun) and run.open for run in state.runs.values()):
            return False
        steps = [run for run in state.runs.values() if isinstance(run, StepRun) and run.open]
        return len(steps) == 1 and not self._deadline_near(state, command.task)

    def _deadline_near(self, state: Session, task: Task) -> bool:
        """A run whose deadline may pass during an attempt must be able to hear of it."""
        return self._bus.clock.now_ms() + task.longest_ms > state.accepted.deadline_ms

    async def _perform(self, command: Command) -> None:
        match command:
            case Dispatch():
                self.group.start_soon(self._attempt_later, command, self.came)
            case RecordOutcome():
                self._say(command.outcome, command.pool, command.node, command.attempt)
            case RecordEnd():
                self._say(command.ended)
            case SetTimer():
                self.group.start_soon(self._wait, command)
            case TellCancelled():
                await self._bus.publish(subjects.cancelled(self._session), encode(Unwanted(attempts=command.attempts)))

    async def _attempt(self, command: Dispatch) -> Recorded:
        outcome = await ask(self._bus, command.pool, command.task)
        return self._recorded(outcome, command.pool, command.task.node, command.task.attempt)

    async def _attempt_later(self, command: Dispatch, came: MemoryObjectSendStream[Event]) -> None:
        came.send_nowait(await self._attempt(command))

    async def _wait(self, command: SetTimer) -> None:
        await anyio.sleep(max(0, command.at_ms - self._bus.clock.now_ms()) / 1000)
        self.came.send_nowait(command.event)

    def _say(self, event: JournalEvent, pool: str = "", node: str = "", attempt: int = 0) -> None:
        self.came.send_nowait(self._recorded(event, pool, node, attempt))

    def _recorded(self, event: JournalEvent, pool: str = "", node: str = "", attempt: int = 0) -> Recorded:
        self._sequence += 1
        return Recorded(
            sequence=self._sequence,
            time_ms=self._bus.clock.now_ms(),
            event=event,
            pool=pool,
            node=node,
            attempt=attempt,
        )
