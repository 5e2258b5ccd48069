"""Handlers whose workers are away for a moment, and such as nobody has offered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest

from dspex_bus import MemoryBus, MemoryServer, subjects
from dspex_bus.errors import DspexError
from dspex_bus.wire import (
    CallRequest,
    HandlerInfo,
    PipelineDefinition,
    StepDefinition,
    TaskNode,
    WorkerPresence,
    encode,
)
from dspex_router.shell import presence
from dspex_router.shell.calling import Calling
from dspex_router.shell.compiling import Compiling
from dspex_router.shell.config import RouterConfig
from dspex_router.shell.presence import Presence

pytestmark = pytest.mark.anyio

CONFIG = RouterConfig(workers_grace_s=5)
QUICK = RouterConfig(workers_grace_s=0.05)
Asks = Callable[[RouterConfig, Presence], Awaitable[str]]


async def plan(config: RouterConfig, known: Presence) -> str:
    step = StepDefinition(native="h")
    made = await Compiling(config, known).plan(PipelineDefinition(name="d", steps=(step,)), (), "stored", {})
    child = made.root.children[0]
    assert isinstance(child, TaskNode)
    return child.pool


async def call(config: RouterConfig, known: Presence) -> str:
    return (await Calling(known._bus, config, known)._placed("h", CallRequest())).pool


class Workers:
    def __init__(self, bus: MemoryBus, known: Presence) -> None:
        self.known = known
        self._bus = bus

    async def say(self, pool: str, handler: str, state: str = "ready") -> None:
        changed = self.known.next_change()
        said = WorkerPresence(worker=pool, pool=pool, state=state, handlers=(HandlerInfo(name=handler),))  # type: ignore[arg-type]
        await self._bus.publish(subjects.presence(pool, pool), encode(said))
        with anyio.fail_after(5):
            await changed.wait()


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    async with MemoryBus(MemoryServer()) as bus:
        known = Presence(bus)
        async with known.following():
            made = Workers(bus, known)
            await made.say("native", "other")
            yield made


@pytest.mark.parametrize("ask", [plan, call])
async def test_a_handler_that_was_there_a_moment_ago_is_waited_for(workers: Workers, ask: Asks) -> None:
    await workers.say("p", "h")
    await workers.say("p", "h", "leaving")
    found: list[str] = []

    async def asking() -> None:
        found.append(await ask(CONFIG, workers.known))

    async with anyio.create_task_group() as group:
        group.start_soon(asking)
        await anyio.wait_all_tasks_blocked()
        assert not found
        await workers.say("p", "h")
    assert found == ["p"]


@pytest.mark.parametrize("ask", [plan, call])
async def test_a_handler_that_does_not_come_back_is_not_waited_for_for_ever(workers: Workers, ask: Asks) -> None:
    await workers.say("p", "h")
    await workers.say("p", "h", "leaving")
    with anyio.fail_after(5), pytest.raises(DspexError, match="no handler 'h'"):
        await ask(QUICK, workers.known)


@pytest.mark.parametrize("ask", [plan, call])
@pytest.mark.parametrize("long_ago", [True, False])
async def test_any_other_is_unknown_at_once(
    workers: Workers, ask: Asks, long_ago: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if long_ago:
        await workers.say("p", "h")
        await workers.say("p", "h", "leaving")
        monkeypatch.setattr(presence, "KNOWN_S", 0.0)
    with anyio.fail_after(2), pytest.raises(DspexError, match="no handler 'h'"):
        await ask(CONFIG, workers.known)
