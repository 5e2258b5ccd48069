"""What a system keeps and what it is made of: pipelines, schedules, limits, dead letters, pools."""

from __future__ import annotations

from dspex_bus.wire import (
    DeadLetter,
    DeadList,
    DeadListRequest,
    DeadRequest,
    LimitDefinition,
    LimitList,
    LimitPut,
    LimitRequest,
    LimitView,
    PipelineDefinition,
    PipelineList,
    PipelinePut,
    PipelineRequest,
    PipelineView,
    PoolList,
    ScheduleDefinition,
    ScheduleList,
    SchedulePut,
    ScheduleRequest,
    ScheduleView,
    Submitted,
)

from ._asking import Asking
from .sessions import Session


class Managing(Asking):
    """Each method is one request to the router."""

    async def put_pipeline(self, definition: PipelineDefinition) -> PipelineView:
        """Store a definition under its name; the newest version is what new runs of that name use."""
        return await self.ask("pipeline", "put", PipelinePut(definition=definition), PipelineView)

    async def get_pipeline(self, name: str, version: str | None = None) -> PipelineView:
        return await self.ask("pipeline", "get", PipelineRequest(name=name, version=version), PipelineView)

    async def pipelines(self) -> PipelineList:
        return await self.ask("pipeline", "list", None, PipelineList)

    async def delete_pipeline(self, name: str, version: str | None = None) -> None:
        """The name with all its versions, or one version that is not the newest."""
        await self.ask("pipeline", "delete", PipelineRequest(name=name, version=version), PipelineView)

    async def put_schedule(self, definition: ScheduleDefinition) -> ScheduleView:
        """Start a pipeline by itself at set times. Each tick is one session, ``<name>-<tick in UTC>``."""
        return await self.ask("schedule", "put", SchedulePut(definition=definition), ScheduleView)

    async def get_schedule(self, name: str) -> ScheduleView:
        return await self.ask("schedule", "get", ScheduleRequest(name=name), ScheduleView)

    async def schedules(self) -> ScheduleList:
        return await self.ask("schedule", "list", None, ScheduleList)

    async def pause_schedule(self, name: str) -> ScheduleView:
        return await self.ask("schedule", "pause", ScheduleRequest(name=name), ScheduleView)

    async def resume_schedule(self, name: str) -> ScheduleView:
        return await self.ask("schedule", "resume", ScheduleRequest(name=name), ScheduleView)

    async def delete_schedule(self, name: str) -> None:
        """Sessions that it started go on."""
        await self.ask("schedule", "delete", ScheduleRequest(name=name), ScheduleView)

    async def put_limit(self, definition: LimitDefinition) -> LimitView:
        """Limit how many steps that name it run at once, or start in a second, over all routers and pools."""
        return await self.ask("limit", "put", LimitPut(definition=definition), LimitView)

    async def limits(self) -> LimitList:
        return await self.ask("limit", "list", None, LimitList)

    async def delete_limit(self, name: str) -> None:
        """What waits for a permit of it is sent."""
        await self.ask("limit", "delete", LimitRequest(name=name), LimitView)

    async def dead_letters(self, pool: str | None = None, *, after: int = 0, limit: int = 100) -> DeadList:
        """Messages nobody could do anything with, oldest first, each with the reason."""
        return await self.ask("letters", "list", DeadListRequest(pool=pool, after=after, limit=limit), DeadList)

    async def dead_letter(self, sequence: int) -> DeadLetter:
        """One of them, with the original message."""
        return await self.ask("letters", "show", DeadRequest(sequence=sequence), DeadLetter)

    async def retry_dead_letter(self, sequence: int) -> Session:
        """Its session goes on from what failed, as a new session; the letter is dropped."""
        return Session(self, (await self.ask("letters", "retry", DeadRequest(sequence=sequence), Submitted)).session)

    async def drop_dead_letter(self, sequence: int) -> None:
        await self.ask("letters", "drop", DeadRequest(sequence=sequence), DeadLetter)

    async def pools(self) -> PoolList:
        """Every pool's workers, slots and queue, live."""
        return await self.ask("pools", "list", None, PoolList)
