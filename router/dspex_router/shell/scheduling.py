"""Schedules' ticks turned into runs, by whoever owns them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from msgspec.structs import replace

from dspex_bus import Bus, Message, subjects
from dspex_bus.errors import Conflict, DspexError, InvalidRequest
from dspex_bus.wire import ScheduleState, error_info

from ..ticks import check, due, session_id, upcoming
from .journals import Journals
from .owner import Owner
from .schedules import Schedule, Schedules, as_run
from .submitting import Submitting

log = logging.getLogger(__name__)

_LOOK_S = 1.0
_READ_AGAIN_S = 10.0
_LATE_MS = 60_000
"""A tick this late was missed; one that is less late is only late."""


class Scheduler:
    """Starts the runs of the schedules that hash into our partitions. The session's id makes each tick one session: who
    starts it a second time, after a crash or beside another owner, starts nothing."""

    def __init__(
        self, bus: Bus, owner: Owner, journals: Journals, submitting: Submitting, schedules: Schedules
    ) -> None:
        self._bus = bus
        self._owner = owner
        self._journals = journals
        self._submitting = submitting
        self._schedules = schedules
        self._ours: dict[str, Schedule] = {}
        self._owned: frozenset[int] = frozenset()
        self._read_at = 0.0
        self._woken = anyio.Event()

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        async with self._bus.subscribed(subjects.SCHEDULES_CHANGED, self._on_changed):
            yield

    async def run(self) -> None:
        while True:
            self._woken = anyio.Event()
            try:
                await self._read_again()
                for schedule in list(self._ours.values()):
                    await self._tick(schedule)
            except DspexError as error:
                log.warning("schedules are looked at again in %g s: %s", _LOOK_S, error)
            with anyio.move_on_after(self._pause_s()):
                await self._woken.wait()

    async def _on_changed(self, _message: Message) -> None:
        self._read_at = 0.0
        self._woken.set()

    async def _read_again(self) -> None:
        """Told or not, now and then, and when our partitions have changed."""
        if self._owned == self._owner.owned and anyio.current_time() < self._read_at + _READ_AGAIN_S:
            return
        self._owned, self._read_at = self._owner.owned, anyio.current_time()
        found: dict[str, Schedule] = {}
        for name in await self._schedules.names():
            if self._journals.partition(name) in self._owned:
                schedule = await self._schedules.read(name)
                if schedule is not None and not schedule.definition.paused and _is_told(schedule):
                    schedule.not_before = self._ours[name].not_before if name in self._ours else 0.0
                    found[name] = schedule
        self._ours = found

    def _pause_s(self) -> float:
        now = self._bus.clock.now_ms()
        soonest = [tick for schedule in self._ours.values() for tick in upcoming(schedule.definition, now, 1)]
        return min(_LOOK_S, max(min(soonest) - now, 1) / 1000) if soonest else _LOOK_S

    async def _tick(self, schedule: Schedule) -> None:
        if anyio.current_time() < schedule.not_before:
            return
        now = self._bus.clock.now_ms()
        for tick in due(schedule.definition, schedule.after_ms, now, late_ms=_LATE_MS):
            state = await self._started(schedule, tick)
            if state is None:
                return
            schedule.state = state
            await self._schedules.keep_state(schedule.definition.name, state)

    async def _started(self, schedule: Schedule, tick: int) -> ScheduleState | None:
        """The state after the tick; None where it is to be tried again."""
        state, definition = schedule.state, schedule.definition
        if definition.overlap == "skip" and state.session and await self._runs(state.session):
            return replace(state, last_ms=tick, skipped=state.skipped + 1, error=None)
        session = session_id(definition, tick)
        name, request = as_run(definition, session)
        try:
            await self._submitting.submit(name, request)
        except Conflict:
            log.debug("the session %s was there already, started before the schedule was changed", session)
        except DspexError as error:
            if error.retryable and self._bus.clock.now_ms() < tick + _LATE_MS:
                schedule.not_before = anyio.current_time() + _LOOK_S
                log.warning("schedule %s: its tick is tried again: %s", definition.name, error)
                return None
            log.error("schedule %s: a tick started nothing: %s", definition.name, error)
            return replace(state, last_ms=tick, error=error_info(error))
        return replace(state, last_ms=tick, session=session, started=state.started + 1, error=None)

    async def _runs(self, session: str) -> bool:
        return await self._journals.exists(session) and not await self._journals.has_ended(session)


def _is_told(schedule: Schedule) -> bool:
    """Whether we can tell when it ticks: another machine may know more timezones than this one."""
    try:
        check(schedule.definition)
    except InvalidRequest as error:
        log.error("a schedule is passed over: %s", error)
        return False
    return True
