"""Schedules start their runs, each tick once, whichever routers are there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

import dspex
from dspex_bus import EmbeddedServer, NatsBus
from dspex_bus.errors import DspexError
from dspex_bus.streams import LIMITS, PIPELINES, SCHEDULES
from dspex_bus.wire import LimitDefinition, ScheduleDefinition, ScheduleView
from dspex_router.shell import Router

pytestmark = pytest.mark.anyio
STEP_MS = 50
NAP = dspex.pipeline([dspex.sleep(0.001)], name="nap")
SHORT = dspex.pipeline([dspex.wait("never")], name="waits")


@asynccontextmanager
async def router(server: EmbeddedServer) -> AsyncIterator[None]:
    async with NatsBus(server.url, name="router") as bus, anyio.create_task_group() as group:
        await group.start(Router(bus).run)
        yield
        group.cancel_scope.cancel()


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer() as started:
        yield started


async def until(client: dspex.Client, name: str, holds: Callable[[ScheduleView], bool]) -> ScheduleView:
    with anyio.fail_after(20):
        while not holds(view := await client.get_schedule(name)):
            await anyio.sleep(0.02)
        return view


async def ticks(client: dspex.Client, name: str) -> list[int]:
    """Those that have a session, as numbers of the schedule's steps."""
    found = []
    for summary in (await client.sessions(limit=1000)).sessions:
        text = summary.session.removeprefix(f"{name}-")
        form = "%Y%m%dT%H%M%S_%fZ" if "_" in text else "%Y%m%dT%H%M%SZ"
        moment = datetime.strptime(text, form).replace(tzinfo=UTC)
        found.append(round((moment - datetime.fromtimestamp(0, UTC)) / timedelta(milliseconds=STEP_MS)))
    return sorted(found)


async def test_each_tick_is_one_session_through_changes_of_routers(server: EmbeddedServer) -> None:
    quick = ScheduleDefinition(name="quick", pipeline="nap", every_s=STEP_MS / 1000, missed="all")
    async with dspex.connect(server.url) as client:
        async with router(server):
            await client.put_pipeline(NAP)
            put = await client.put_schedule(quick)
            async with router(server):
                await until(client, "quick", lambda view: view.state.started >= 10)
            await until(client, "quick", lambda view: view.state.started >= 15)
        await anyio.sleep(3 * STEP_MS / 1000)  # nobody is there, and ticks are missed
        async with router(server):
            before = await client.get_schedule("quick")
            await until(client, "quick", lambda view: view.state.started >= before.state.started + 10)
            await client.delete_schedule("quick")
            with pytest.raises(DspexError, match="no schedule 'quick'"):
                await client.get_schedule("quick")
            found = await ticks(client, "quick")
    assert len(found) >= 25
    assert found == list(range(found[0], found[0] + len(found)))
    assert found[0] == put.stored_ms // STEP_MS + 1


async def test_a_paused_schedule_starts_nothing(server: EmbeddedServer) -> None:
    async with dspex.connect(server.url) as client, router(server):
        await client.put_pipeline(NAP)
        await client.put_schedule(ScheduleDefinition(name="quick", pipeline="nap", every_s=STEP_MS / 1000))
        await until(client, "quick", lambda view: view.state.started >= 2)
        paused = await client.pause_schedule("quick")
        assert paused.next_ms == ()
        await anyio.sleep(STEP_MS / 1000)  # what was on its way
        before = (await client.get_schedule("quick")).state.started
        await anyio.sleep(3 * STEP_MS / 1000)  # nothing may be started for three ticks
        assert (await client.get_schedule("quick")).state.started == before
        await client.resume_schedule("quick")
        await until(client, "quick", lambda view: view.state.started > before)


async def test_a_tick_is_left_out_while_the_run_before_it_goes_on(server: EmbeddedServer) -> None:
    waiting = ScheduleDefinition(name="quick", definition=SHORT, every_s=STEP_MS / 1000, overlap="skip")
    async with dspex.connect(server.url) as client, router(server):
        await client.put_schedule(waiting)
        view = await until(client, "quick", lambda view: view.state.skipped >= 3)
        assert view.state.started == 1
        await client.session(view.state.session).signal("never")
        await until(client, "quick", lambda view: view.state.started == 2)


async def test_what_a_tick_could_not_start_is_told(server: EmbeddedServer) -> None:
    async with dspex.connect(server.url) as client, router(server):
        await client.put_pipeline(NAP)
        await client.put_schedule(ScheduleDefinition(name="quick", pipeline="nap", every_s=STEP_MS / 1000))
        await client.delete_pipeline("nap")
        view = await until(client, "quick", lambda view: view.state.error is not None)
        assert view.state.error is not None
        assert view.state.error.code == "unknown_pipeline"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"cron": "0 25 * * *"}, "Bad hour"),
    ({"cron": "30 2 30 2 *"}, "Bad day-of-month"),
    ({"cron": "* * * * *", "timezone": "Mars/Base"}, "no timezone 'Mars/Base'"),
    ({"every_s": 1e-6}, "less than a millisecond"),
    ({"at": "tomorrow"}, "no ISO 8601 moment"),
    ({"at": "2020-02-29T12:00:00Z"}, "2020-02-29T12:00:00Z will not come"),
    ({"every_s": 1.0, "tenant": "a b"}, "malformed"),
    ({"every_s": 1.0, "pipeline": "nowhere"}, "no pipeline 'nowhere'"),
    ({}, "none of them"),
]


async def test_what_cannot_be_scheduled_is_refused(server: EmbeddedServer) -> None:
    async with dspex.connect(server.url) as client, router(server):
        await client.put_pipeline(NAP)
        for when, told in REFUSED:
            with pytest.raises(DspexError, match=told):
                await client.put_schedule(ScheduleDefinition(**{"name": "quick", "pipeline": "nap", **when}))
        assert (await client.schedules()).schedules == ()


async def test_what_has_passed_can_be_paused(server: EmbeddedServer) -> None:
    async with dspex.connect(server.url) as client, router(server):
        await client.put_pipeline(NAP)
        soon = (datetime.now(UTC) + timedelta(seconds=0.3)).isoformat()
        await client.put_schedule(ScheduleDefinition(name="once", pipeline="nap", at=soon))
        await until(client, "once", lambda view: view.state.started == 1)
        assert (await client.pause_schedule("once")).definition.paused
        with pytest.raises(DspexError, match="will not come"):
            await client.resume_schedule("once")


async def test_what_cannot_be_read_is_in_nobody_s_way(server: EmbeddedServer) -> None:
    """A newer release may have stored it."""
    newer = b'{"definition": {"name": "newer", "phase_of_moon": "full"}, "stored_ms": 1}'
    martian = b'{"definition": {"name": "martian", "pipeline": "nap", "cron": "* * * * *", "timezone": "Mars/Base"}'
    async with dspex.connect(server.url) as client, NatsBus(server.url) as bus, router(server):
        await client.put_pipeline(NAP)
        schedules, limits = bus.key_value(SCHEDULES), bus.key_value(LIMITS)
        await schedules.put("newer.definition", newer)
        await schedules.put("martian.definition", martian + b', "stored_ms": 1}')
        await limits.put("limit.newer", newer)
        await limits.put("book.gpt", b"[]")
        await bus.key_value(PIPELINES).put("newer.current", newer)
        await client.put_limit(LimitDefinition(name="gpt", concurrency=1))
        await client.put_schedule(ScheduleDefinition(name="quick", pipeline="nap", every_s=STEP_MS / 1000))
        await until(client, "quick", lambda view: view.state.started >= 2)
        assert [view.definition.name for view in (await client.limits()).limits] == ["gpt"]
        assert [view.name for view in (await client.pipelines()).pipelines] == ["nap"]
        with pytest.raises(DspexError, match="malformed"):
            await client.run("newer")
