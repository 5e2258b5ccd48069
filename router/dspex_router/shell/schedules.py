"""Schedules: kept in a bucket, as clients see and change them."""

from __future__ import annotations

import builtins
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from dspex_bus import Bus, subjects
from dspex_bus.errors import InvalidRequest, NotFound
from dspex_bus.streams import SCHEDULES
from dspex_bus.wire import (
    RunRequest,
    ScheduleDefinition,
    ScheduleList,
    SchedulePut,
    ScheduleRequest,
    ScheduleState,
    ScheduleView,
)

from ..ticks import check, upcoming
from .readable import readable
from .submitting import Submitting

_SHOWN = 5


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    definition: ScheduleDefinition
    stored_ms: int


@dataclass(slots=True)
class Schedule:
    """``not_before`` is when a tick that could not be started is tried again, by the clock of the event loop."""

    definition: ScheduleDefinition
    stored_ms: int
    state: ScheduleState
    not_before: float = 0.0

    @property
    def after_ms(self) -> int:
        return max(self.stored_ms, self.state.last_ms)


class Schedules:
    """What clients ask. ``<name>.definition`` is theirs to change, ``<name>.state`` the owner's."""

    def __init__(self, bus: Bus, submitting: Submitting) -> None:
        self._bus = bus
        self._bucket = bus.key_value(SCHEDULES)
        self._submitting = submitting

    async def put(self, request: SchedulePut) -> ScheduleView:
        """Raises NotFound where the pipeline is not stored yet, InvalidRequest where no tick will come, and what
        :func:`check` raises."""
        definition = request.definition
        check(definition)
        if not definition.paused and not upcoming(definition, self._bus.clock.now_ms(), 1):
            raise InvalidRequest(
                f"schedule {definition.name!r}: {definition.at or definition.cron} will not come again"
            )
        name, run = as_run(definition, "check")
        await self._submitting.definition(name, run)
        kept = _Kept(definition=definition, stored_ms=self._bus.clock.now_ms())
        await self._bucket.put(f"{definition.name}.definition", msgspec.json.encode(kept))
        await self._changed()
        return await self.get(ScheduleRequest(name=definition.name))

    async def get(self, request: ScheduleRequest) -> ScheduleView:
        schedule = await self.read(request.name)
        if schedule is None:
            known = ", ".join(await self.names()) or "none"
            raise NotFound(f"there is no schedule {request.name!r}; stored: {known}", code="unknown_schedule")
        return _view(schedule, self._bus.clock.now_ms())

    async def list(self) -> ScheduleList:
        found = [await self.read(name) for name in await self.names()]
        now_ms = self._bus.clock.now_ms()
        return ScheduleList(schedules=tuple(_view(schedule, now_ms) for schedule in found if schedule is not None))

    async def pause(self, request: ScheduleRequest) -> ScheduleView:
        return await self._paused(request, True)

    async def resume(self, request: ScheduleRequest) -> ScheduleView:
        """Ticks that passed meanwhile were not missed: they were not to be."""
        return await self._paused(request, False)

    async def delete(self, request: ScheduleRequest) -> ScheduleView:
        """Sessions that it started go on."""
        gone = await self.get(request)
        await self._bucket.delete(f"{request.name}.definition")
        await self._bucket.delete(f"{request.name}.state")
        await self._changed()
        return gone

    async def names(self) -> builtins.list[str]:
        return [key.partition(".")[0] for key in await self._bucket.keys("*.definition")]

    async def read(self, name: str) -> Schedule | None:
        """None where there is none that can be read."""
        key, told = f"{name}.definition", f"{name}.state"
        kept = readable(_Kept, key, await self._bucket.get(key))
        if kept is None:
            return None
        state = readable(ScheduleState, told, await self._bucket.get(told))
        return Schedule(kept.definition, kept.stored_ms, state or ScheduleState())

    async def keep_state(self, name: str, state: ScheduleState) -> None:
        await self._bucket.put(f"{name}.state", msgspec.json.encode(state))

    async def _paused(self, request: ScheduleRequest, paused: bool) -> ScheduleView:
        definition = (await self.get(request)).definition
        return await self.put(SchedulePut(definition=replace(definition, paused=paused)))

    async def _changed(self) -> None:
        await self._bus.publish(subjects.SCHEDULES_CHANGED)


def as_run(definition: ScheduleDefinition, session: str) -> tuple[str, RunRequest]:
    """The pipeline's name and the request that starts the tick's session."""
    request = RunRequest(
        input=definition.input,
        definition=definition.definition,
        session=session,
        timeout_s=definition.timeout_s,
        budget=definition.budget,
        tenant=definition.tenant,
        priority=definition.priority,
    )
    return definition.pipeline or subjects.INLINE, request


def _view(schedule: Schedule, now_ms: int) -> ScheduleView:
    return ScheduleView(
        definition=schedule.definition,
        stored_ms=schedule.stored_ms,
        state=schedule.state,
        next_ms=upcoming(schedule.definition, max(now_ms, schedule.after_ms), _SHOWN),
    )
