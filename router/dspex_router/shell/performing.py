"""The core's commands, done on the bus. Nothing here waits for the server."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import anyio

from dspex_bus import Bus, subjects
from dspex_bus.bus import Headers
from dspex_bus.claim import Claims
from dspex_bus.errors import Conflict, DspexError, NotFound, PayloadTooLarge
from dspex_bus.streams import LIVE, TASKS
from dspex_bus.subjects import ROUTER_POOL
from dspex_bus.wire import (
    CONTENT_TYPE,
    RESENT,
    SENT,
    Parent,
    SessionAccepted,
    SessionEnded,
    StepFailed,
    StepOutcome,
    Unwanted,
    alone,
    encode,
    encode_event,
    error_info,
)

from ..core import (
    Command,
    Dispatch,
    Finish,
    RecordEnd,
    RecordOutcome,
    Session,
    SetTimer,
    StartChild,
    TellCancelled,
    TellChild,
    Timer,
)
from .controlling import Controls
from .earlier import Earlier
from .errands import Errands
from .gate import Gate, holder_of
from .journals import Journals
from .limits import Limits
from .release import stamped
from .timers import Timers
from .writing import Write, Writer
from .young import Young, live_key

log = logging.getLogger(__name__)

_RESENT = {RESENT: "1"}
_ON_ITS_WAY_S = 0.5
_AGAIN_MS = 250


class Performer:
    def __init__(
        self,
        bus: Bus,
        journals: Journals,
        writer: Writer,
        timers: Timers,
        errands: Errands,
        controls: Controls,
        limits: Limits,
        gate: Gate,
        young: Young,
        on_timer: Callable[[str, Timer], Awaitable[None]],
        sure: Callable[[], bool],
    ) -> None:
        self._bus = bus
        self._journals = journals
        self._earlier = Earlier(journals)
        self._live = bus.key_value(LIVE)
        self._young = young
        self._claims = Claims(bus)
        self._writer = writer
        self._timers = timers
        self._errands = errands
        self._controls = controls
        self._limits = limits
        self.gate = gate
        self._on_timer = on_timer
        self._sure = sure

    async def perform(self, state: Session, commands: Sequence[Command], *, resent: bool = False) -> None:
        """``resent``: the attempts may have been sent before, by us or by somebody who is gone. Where somebody may have
        taken us for dead they are said to have been, too."""
        for command in commands:
            match command:
                case Dispatch():
                    await self._send(state, command, resent)
                case RecordOutcome():
                    await self._writer.write(outcome_write(state, command))
                case RecordEnd():
                    await self._writer.write(end_write(state.id, state.partition, command.ended))
                case SetTimer():
                    self._timers.set(
                        command.at_ms, state.id, partial(self._on_timer, state.id, command.event), absolute=resent
                    )
                case StartChild():
                    await self._start_child(state.id, command.accepted)
                case TellChild():
                    self._errands.add(partial(self._tell_child, state.id, command))
                case TellCancelled():
                    await self.tell_cancelled(state.id, command.attempts)
                case Finish():
                    await self.finish(state.id, state.partition, command)

    async def _send(self, state: Session, command: Dispatch, resent: bool) -> None:
        names = self._limits.names(command.limits, state.accepted.tenant)
        if not names:
            await self._writer.write(self._task(state, command, resent or not self._sure()))
            return
        send = partial(self._hand_over, state, command, resent)
        holder = holder_of(state.id, command.task.node, command.task.attempt)
        rank = subjects.LANES.index(state.accepted.priority)
        await self.gate.send(state.id, holder, names, rank, send)

    async def _hand_over(self, state: Session, command: Dispatch, resent: bool) -> None:
        await self._writer.write(self._task(state, command, resent or not self._sure()))

    def _task(self, state: Session, command: Dispatch, resent: bool) -> Write:
        task = command.task
        return Write(
            session=state.id,
            subject=subjects.task(command.pool, state.accepted.priority, state.id, task.node, task.attempt),
            data=encode(task),
            headers=_RESENT if resent else {SENT: str(self._bus.clock.now_ms())},
            instead=partial(self._alone, state, command, resent)
            if task.then
            else partial(_undeliverable, state, command),
        )

    def _alone(self, state: Session, command: Dispatch, resent: bool, error: DspexError) -> Write:
        """In place of a task that cannot be sent: those that travel along may be too much for one message."""
        return self._task(state, Dispatch(command.pool, alone(command.task)), resent)

    async def tell_cancelled(self, session: str, attempts: tuple[tuple[str, int], ...] = ()) -> None:
        """Running attempts are told at once; a session's queued ones are taken out of the queue, and of a few branches'
        those that a worker has heard of."""
        await self._say(subjects.cancelled(session), encode(Unwanted(attempts=attempts)))
        if not attempts:
            self._errands.add(partial(self._bus.purge, TASKS, subjects.session_tasks(session)))

    async def _start_child(self, parent: str, accepted: SessionAccepted) -> None:
        """Its parent's journal is what makes sure of it: whoever owns the parent starts it again."""
        self._errands.add(partial(self._begin_child, parent, accepted))

    async def _begin_child(self, parent: str, accepted: SessionAccepted) -> None:
        partition = self._journals.partition(accepted.session)
        try:
            accepted = await self._earlier.for_child(accepted)
            await self._young.announce(partition, accepted.session)
        except DspexError as error:
            log.warning("session %s is begun in a moment: %s", accepted.session, error)
            self._timers.after(_AGAIN_MS, parent, partial(self._start_child, parent, accepted))
            return
        subject = subjects.accepted(partition, accepted.session)
        data, headers = encode_event(stamped(accepted), subject)
        await self._writer.write(
            Write(
                session=parent,
                subject=subject,
                data=data,
                headers=headers,
                instead=partial(_childless, accepted.parent),
            )
        )

    async def _tell_child(self, parent: str, command: TellChild, tries: int = 2) -> None:
        if not await self._is_told(parent, command) and tries > 1:
            await anyio.sleep(_ON_ITS_WAY_S)
            await self._tell_child(parent, command, tries - 1)

    async def _is_told(self, parent: str, command: TellChild) -> bool:
        """False where the child is not there: it was never started, or is on its way."""
        try:
            if command.verb == "cancel":
                await self._controls.cancel(command.session, "the run that started it does not want it any more")
            else:
                await self._controls.follow(command.session, parent)
        except Conflict:
            log.debug("session %s is over: nothing to %s", command.session, command.verb)
        except NotFound:
            return False
        return True

    async def finish(self, session: str, partition: int, command: Finish) -> None:
        if command.reply:
            await self.reply(command.reply, command.result, command.reply_content)
        if command.parent is not None and command.report is not None:
            self._errands.add(partial(self._report_and_forget, partition, session, command.parent, command.report))
        elif not self._young.over(partition, session):
            self._errands.add_later(partial(self._live.delete, live_key(partition, session)))

    async def _report_and_forget(self, partition: int, session: str, parent: Parent, report: StepOutcome) -> None:
        """The parent's step has its outcome before the session is out of the index: until then a sweep finds it and
        reports again."""
        await self._report(parent, report)
        if not self._young.over(partition, session):
            await self._live.delete(live_key(partition, session))

    async def _report(self, parent: Parent, report: StepOutcome) -> None:
        slot = subjects.outcome(parent.partition, parent.session, ROUTER_POOL, parent.node, parent.attempt)
        await self._claims.store_once(slot, *encode_event(report, slot))

    async def tell_again(self, command: Finish) -> None:
        """What follows from an end, of which it is not known whether somebody did it."""
        if command.reply:
            await self.reply(command.reply, command.result, command.reply_content)
        if command.parent is not None and command.report is not None:
            await self._report(command.parent, command.report)

    async def reply(self, subject: str, result: Any, content: str) -> None:
        data, headers = encode(result, content), {CONTENT_TYPE: content}
        if self._claims.large(data):
            self._errands.add(partial(self._reply_large, subject, data, headers))
        else:
            await self._say(subject, data, headers)

    async def _reply_large(self, subject: str, data: bytes, headers: dict[str, str]) -> None:
        try:
            data, told = await self._claims.pack(subject, data, headers)
        except PayloadTooLarge as error:
            refusal = error
        else:
            await self._say(subject, data, told)
            return
        await self.reply_error(subject, refusal, headers[CONTENT_TYPE])

    async def reply_error(self, subject: str, error: DspexError, content: str) -> None:
        headers = {"Nats-Service-Error-Code": str(error.status), "Nats-Service-Error": " ".join(error.message.split())}
        await self._say(subject, encode(error_info(error), content), {CONTENT_TYPE: content, **headers})

    async def _say(self, subject: str, data: bytes, headers: Headers | None = None) -> None:
        try:
            await self._bus.publish(subject, data, headers=headers)
        except DspexError as error:
            log.warning("nothing could be said on %s: %s", subject, error)


def outcome_write(state: Session, command: RecordOutcome) -> Write:
    subject = subjects.outcome(state.partition, state.id, command.pool, command.node, command.attempt)
    data, headers = encode_event(command.outcome, subject)
    return Write(session=state.id, subject=subject, data=data, headers=headers)


def end_write(session: str, partition: int, ended: SessionEnded) -> Write:
    """An end that cannot be stored (its output may be larger than a message) is replaced by one that says so."""
    subject = subjects.end(partition, session)
    data, headers = encode_event(ended, subject)
    instead = None if ended.output is None else partial(_unstorable, session, partition)
    return Write(session=session, subject=subject, data=data, headers=headers, instead=instead)


def _childless(parent: Parent | None, error: DspexError) -> Write:
    """In place of a child that cannot be stored: its parent's step fails."""
    assert parent is not None
    subject = subjects.outcome(parent.partition, parent.session, ROUTER_POOL, parent.node, parent.attempt)
    data, headers = encode_event(StepFailed(error=error_info(error)), subject)
    return Write(session=parent.session, subject=subject, data=data, headers=headers)


def _undeliverable(state: Session, command: Dispatch, error: DspexError) -> Write:
    outcome: StepOutcome = StepFailed(error=error_info(error))
    return outcome_write(state, RecordOutcome(command.pool, command.task.node, command.task.attempt, outcome))


def _unstorable(session: str, partition: int, error: DspexError) -> Write:
    return end_write(session, partition, SessionEnded(status="failed", error=error_info(error)))
