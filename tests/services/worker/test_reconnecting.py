"""A server that goes away in mid-step and comes back."""

from __future__ import annotations

import secrets
from typing import Any

import anyio
import pytest

from dspex_bus import EmbeddedServer, NatsBus
from dspex_bus.wire import RESENT, StepSucceeded
from dspex_services.handlers import Handlers

from ..rig import Rig

pytestmark = pytest.mark.anyio


class Holding:
    def __init__(self) -> None:
        self.handlers = Handlers()
        self.runs = 0
        self.inside, self.go = anyio.Event(), anyio.Event()

        @self.handlers.handler("hold")
        async def hold(values: dict[str, Any]) -> dict[str, Any]:
            self.runs += 1
            self.inside.set()
            await self.go.wait()
            return {"run": self.runs}


async def began(holding: Holding) -> None:
    with anyio.fail_after(10):
        await holding.inside.wait()


@pytest.mark.parametrize("crash", [True, False])
async def test_the_outcome_of_a_step_is_stored_once_the_server_is_back(crash: bool) -> None:
    holding = Holding()
    async with EmbeddedServer() as server, NatsBus(server.url) as bus:
        rig = Rig(server.url, bus, f"p{secrets.token_hex(4)}")
        async with rig.watching(), rig.worker(holding.handlers, slots=2) as worker:
            task = rig.task("hold")
            await rig.send(task)
            await began(holding)
            if crash:
                await server.kill()
                holding.go.set()  # it ends while nobody listens
                while worker.busy:
                    await anyio.sleep(0.01)
                await server.restart()
            else:
                await server.restart()
                holding.go.set()
            assert (await rig.recorded(task, within_s=20)).outputs == {"run": 1}
            for _ in range(3):  # and it serves on, with both of its slots
                assert isinstance(await rig.run("hold"), StepSucceeded)


async def test_an_attempt_sent_again_after_a_restart_joins_the_one_that_runs() -> None:
    holding = Holding()
    async with EmbeddedServer() as server, NatsBus(server.url) as bus:
        rig = Rig(server.url, bus, f"p{secrets.token_hex(4)}")
        async with rig.watching(), rig.worker(holding.handlers, slots=2):
            task = rig.task("hold")
            await rig.send(task)
            await began(holding)
            await server.restart()
            await rig.send(task, {RESENT: "1"})
            other = rig.task("hold")  # behind it in the queue
            await rig.send(other)
            with anyio.fail_after(20):
                while holding.runs < 2:
                    await anyio.sleep(0.01)
            holding.go.set()
            assert isinstance(await rig.recorded(task), StepSucceeded)
            assert isinstance(await rig.outcome(other), StepSucceeded)
            await rig.queue_empty()
    assert holding.runs == 2


async def test_an_acknowledgement_from_before_a_restart_takes_no_task_away() -> None:
    """Tasks are in memory: the server begins to count anew. The first worker's late word on its first task must not be
    taken for one on the first task of now, which is another's."""
    first, second = Holding(), Holding()
    async with EmbeddedServer() as server, NatsBus(server.url) as bus:
        rig = Rig(server.url, bus, f"p{secrets.token_hex(4)}")
        async with rig.watching(), rig.worker(first.handlers, slots=1):
            before, now = rig.task("hold"), rig.task("hold")
            await rig.send(before)
            await began(first)
            await server.restart()
            async with rig.worker(second.handlers, slots=1):
                await rig.send(now)
                with anyio.fail_after(20):
                    await second.inside.wait()
                first.go.set()
                await rig.recorded(before)
                assert (await rig.counts())["ack_pending"] == 1
                second.go.set()
                assert isinstance(await rig.outcome(now), StepSucceeded)
                await rig.queue_empty()
