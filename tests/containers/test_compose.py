"""The system in containers: it answers, it is careful with rights, and it survives what is done to its containers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import pytest

import dspex
from dspex_bus.wire import SessionEnded, StepSucceeded

from .conftest import Stack, health

pytestmark = [pytest.mark.anyio, pytest.mark.containers, pytest.mark.timeout(180)]

SERVICES = ("nats", "router", "native", "dspy")

MIXED = dspex.pipeline(
    [
        dspex.native("signature", spec="question -> answer"),
        dspex.module("dspy.ChainOfThought", signature="question -> answer"),
        dspex.wait("approval"),
        dspex.map("words", [dspex.native("template", template="{{ item }}!")], limit=4),
    ],
    output=["answer", "text", "by"],
)
WORDS = [f"w{number}" for number in range(200)]


async def submitted(client: dspex.Client) -> dspex.Session:
    return await client.submit(MIXED, {"question": "What is 17 plus 25?", "words": WORDS}, timeout_s=120)


async def until(client: dspex.Client, holds: Callable[[dspex.Client], Any]) -> None:
    with anyio.fail_after(60):
        while True:
            try:
                if await holds(client):
                    return
            except dspex.Unavailable:
                pass
            await anyio.sleep(0.1)


async def waits(client: dspex.Client, session: dspex.Session) -> None:
    async def holds(_client: dspex.Client) -> bool:
        return bool((await session.view()).waiting_for)

    await until(client, holds)


async def ends_well(session: dspex.Session) -> None:
    """With the right output, in one end, each step having succeeded once."""
    result = await session.result(timeout_s=90)
    assert result.output == {"answer": "42", "text": [f"{word}!" for word in WORDS], "by": "us"}
    events = [event async for event in session.events()]
    assert [type(event.event) for event in events].count(SessionEnded) == 1
    successes = Counter(event.node for event in events if isinstance(event.event, StepSucceeded))
    assert set(successes.values()) == {1}


async def test_every_service_is_healthy_and_none_runs_as_root(stack: Stack) -> None:
    for service in SERVICES:
        container = stack.one(service)
        assert health(container) == "healthy"
        assert container.attrs["Config"]["User"] == "10001:10001"
        assert container.attrs["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
        titles, rows = (container.top(ps_args="-eo uid,pid,args")[key] for key in ("Titles", "Processes"))
        assert titles[0] == "UID"
        assert {row[0] for row in rows} == {"10001"}


async def test_a_run_through_every_container(stack: Stack, client: dspex.Client) -> None:
    session = await submitted(client)
    await waits(client, session)
    await session.signal("approval", {"by": "us"})
    await ends_well(session)


@pytest.mark.parametrize("service", SERVICES)
async def test_a_container_killed_in_mid_run(stack: Stack, client: dspex.Client, service: str) -> None:
    """While the run waits, and again while its map runs."""
    session = await submitted(client)
    await waits(client, session)
    stack.one(service).kill()
    stack.one(service).start()
    await stack.until_healthy(*SERVICES)
    await until(client, lambda client: session.view())
    with anyio.fail_after(60):
        while True:  # the same signal twice is one signal
            try:
                await session.signal("approval", {"by": "us"}, id="one")
                break
            except dspex.Unavailable:
                await anyio.sleep(0.1)
    if service != "dspy":
        stack.one(service).kill()
        stack.one(service).start()
    await ends_well(session)
    await stack.until_healthy(*SERVICES)


async def test_a_router_cut_off_from_the_server(stack: Stack, client: dspex.Client) -> None:
    session = await submitted(client)
    await waits(client, session)
    router = stack.one("router")
    (name,) = router.attrs["NetworkSettings"]["Networks"]
    network = router.client.networks.get(name)
    network.disconnect(router)
    with pytest.raises(dspex.DspexError):
        await client.sessions()
    network.connect(router, aliases=["router"])
    await until(client, lambda client: client.sessions())
    await session.signal("approval", {"by": "us"})
    await ends_well(session)


async def test_a_pool_is_scaled(stack: Stack, client: dspex.Client) -> None:
    async def hosts(client: dspex.Client) -> set[str]:
        pools = (await client.pools()).pools
        return {worker.host for pool in pools if pool.pool == "native" for worker in pool.workers}

    async def are_two(client: dspex.Client) -> bool:
        return len(await hosts(client)) == 2

    stack.scale("native", 2)
    await until(client, are_two)
    session = await submitted(client)
    await waits(client, session)
    await session.signal("approval", {"by": "us"})
    await ends_well(session)
    workers = {event.event.worker async for event in session.events() if isinstance(event.event, StepSucceeded)}
    assert len({worker.rsplit("-", 2)[0] for worker in workers if worker} & await hosts(client)) == 2
