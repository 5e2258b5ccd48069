"""Schedules: runs that the router starts by itself, at set times."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from .definition import TOKEN, Budget, PipelineDefinition, Priority, Seconds, Tenant
from .journal import ErrorInfo

ScheduleName = Annotated[str, Meta(pattern=TOKEN, max_length=40)]


class ScheduleDefinition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """When to run which pipeline. Exactly one of ``cron`` (five fields, or six with the seconds first), ``every_s`` and
    ``at`` (an ISO 8601 moment) says when; cron's fields, and a moment without an offset, are of ``timezone``.

    A tick's session is ``<name>-<the tick in UTC>``: each tick is one session, whoever starts it. ``missed``: which
    ticks that passed while no router was there are made up for. ``overlap: skip`` leaves a tick out while the session
    of the one before has not ended. ``pipeline`` names a stored one, or ``definition`` is there in its place; the other
    fields are as in a run request.
    """

    name: ScheduleName
    pipeline: Annotated[str, Meta(pattern=TOKEN)] | None = None
    definition: PipelineDefinition | None = None
    cron: str | None = None
    every_s: Seconds | None = None
    at: str | None = None
    timezone: str = "UTC"
    input: dict[str, Any] = field(default_factory=dict)
    timeout_s: Seconds | None = None
    budget: Budget | None = None
    tenant: Tenant = ""
    priority: Priority | None = None
    missed: Literal["latest", "all", "none"] = "latest"
    overlap: Literal["allow", "skip"] = "allow"
    paused: bool = False
    description: str = ""


class ScheduleState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a schedule has come: ``last_ms`` is its last tick that was started, left out or failed to start;
    ``session`` the last that was started. ``error`` says why the last tick started none."""

    last_ms: int = 0
    session: str = ""
    started: int = 0
    skipped: int = 0
    error: ErrorInfo | None = None


class ScheduleView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``next_ms`` are the ticks to come, the soonest first; none where there will be none."""

    definition: ScheduleDefinition
    stored_ms: int
    state: ScheduleState
    next_ms: tuple[int, ...] = ()


class SchedulePut(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For ``schedule.put``: stores it, or replaces the one of that name. Ticks that were before that do not count."""

    definition: ScheduleDefinition


class ScheduleRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For ``schedule.get``, ``schedule.pause``, ``schedule.resume`` and ``schedule.delete``."""

    name: ScheduleName


class ScheduleList(Struct, frozen=True, kw_only=True):
    """For ``schedule.list`` (the request is empty)."""

    schedules: tuple[ScheduleView, ...]
