"""More runs than a pool can do: some are turned away at once, and what is accepted is done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import dspex
from dspex_bus import EmbeddedServer
from dspex_bus.errors import DspexError
from dspex_router.shell import RouterConfig
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
        assert 20 <= len(accepted) <= 24
        # Another pool's runs have nothing to do with it.
        other = await client.submit(dspex.pipeline([dspex.sleep(0.001)], name="other"))
        gate.go.set()
        for handle in [*accepted, other]:
            assert (await handle.result(timeout_s=20)).status == "succeeded"
        with anyio.fail_after(10):
            while True:
                try:
                    await client.submit(SLOW)
                except DspexError as error:
                    assert error.code == "overloaded"  # noqa: PT017
                else:
                    break


async def test_a_router_with_its_hands_full_refuses(server: EmbeddedServer) -> None:
    accepted = list[dspex.Session]()
    async with router(server, RouterConfig(sessions=5)), dspex.connect(server.url) as client:
        refused = await until_refused(client, NAP, accepted)
        assert (refused.code, len(accepted), refused.details["sessions"]) == ("overloaded", 5, 5)
        await accepted[0].signal("go")
        assert (await accepted[0].result(timeout_s=20)).status == "succeeded"
        await client.submit(NAP)


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
