"""More runs than a pool can do: some are turned away at once, and what is accepted is done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import dspex
from dspex_bus import EmbeddedServer, MemoryBus, MemoryServer
from dspex_bus.errors import DspexError
from dspex_router.plan import Catalog, compile_pipeline
from dspex_router.shell import RouterConfig
from dspex_router.shell.admission import Admission, Overloaded
from dspex_router.shell.presence import Presence
from dspex_services.handlers import Handlers, Step
from dspex_services.worker import WorkerConfig

from .inside import router, worker

pytestmark = pytest.mark.anyio
SLOW = dspex.pipeline([dspex.native("slow", pool="one")], name="slow")
NAP = dspex.pipeline([dspex.wait("go")], name="nap")


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer() as started:
        yield started


class Gate:
    def __init__(self) -> None:
        self.go = anyio.Event()
        self.handlers = Handlers()

        @self.handlers.handler("slow")
        async def slow(values: dict[str, Any], step: Step) -> dict[str, Any]:
            await self.go.wait()
            return {}


async def until_refused(client: dspex.Client, pipeline: Any, accepted: list[dspex.Session]) -> DspexError:
    with anyio.fail_after(20):
        while True:
            try:
                accepted.append(await client.submit(pipeline))
            except DspexError as error:
                return error


async def until_accepted(client: dspex.Client, pipeline: Any) -> None:
    """That one ended may be known here before the router looks at its queues, or has let it go."""
    with anyio.fail_after(20):
        while True:
            try:
                await client.submit(pipeline)
            except DspexError as error:
                if error.code != "overloaded":
                    raise
                await anyio.sleep(0.01)
            else:
                return


async def test_a_full_queue_refuses_and_forgets_nothing(server: EmbeddedServer) -> None:
    gate, accepted = Gate(), list[dspex.Session]()
    async with (
        router(server, RouterConfig(pool_queue=20)),
        worker(server, gate.handlers, WorkerConfig(pool="one", slots=2)),
        dspex.connect(server.url) as client,
    ):
        refused = await until_refused(client, SLOW, accepted)
        assert (refused.code, refused.retryable) == ("overloaded", True)
        assert refused.details["pool"] == "one"
        assert refused.details["queued"] >= 20
        assert 1 <= refused.details["retry_after_s"] <= 60
        assert f"try again in {refused.details['retry_after_s']} s" in refused.message
        # A task is counted twice, or not at all, for the moment in which it is on its way into the queue.
        assert 10 <= len(accepted) <= 40
        # Another pool's runs have nothing to do with it.
        other = await client.submit(dspex.pipeline([dspex.sleep(0.001)], name="other"))
        gate.go.set()
        for handle in [*accepted, other]:
            assert (await handle.result(timeout_s=20)).status == "succeeded"
        await until_accepted(client, SLOW)


async def test_a_router_with_its_hands_full_refuses(server: EmbeddedServer) -> None:
    accepted = list[dspex.Session]()
    async with router(server, RouterConfig(sessions=5)), dspex.connect(server.url) as client:
        refused = await until_refused(client, NAP, accepted)
        # Those accepted last may be on their way into its memory.
        assert (refused.code, 5 <= refused.details["sessions"] <= len(accepted)) == ("overloaded", True)
        for handle in accepted:
            await handle.signal("go")
            assert (await handle.result(timeout_s=20)).status == "succeeded"
        await until_accepted(client, NAP)


async def test_as_many_as_were_said_and_no_more() -> None:
    bus = MemoryBus(MemoryServer())
    plan = compile_pipeline(NAP, Catalog({}))
    admission = Admission(bus, RouterConfig(sessions=5), Presence(bus))
    admission.check(plan, 4)
    with pytest.raises(Overloaded, match="5 sessions are live"):
        admission.check(plan, 5)


async def test_tasks_may_not_take_all_memory(server: EmbeddedServer) -> None:
    gate, accepted = Gate(), list[dspex.Session]()
    heavy = dspex.pipeline([dspex.native("slow", pool="one", ballast="x" * 100_000)], name="heavy")
    async with (
        router(server, RouterConfig(task_bytes=1_000_000)),
        worker(server, gate.handlers, WorkerConfig(pool="one", slots=1)),
        dspex.connect(server.url) as client,
    ):
        refused = await until_refused(client, heavy, accepted)
        assert refused.code == "overloaded"
        assert refused.details["task_bytes"] >= 1_000_000
        gate.go.set()
        for handle in accepted:
            assert (await handle.result(timeout_s=20)).status == "succeeded"
