"""Random runs while servers of a cluster are killed, routers are cut off, and clocks jump."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

import dspex
from dspex_bus import EmbeddedServer, Message
from dspex_bus.errors import DspexError
from dspex_bus.streams import DEFAULT_PARTITIONS, EVENTS, TASKS
from dspex_bus.subjects import ROUTERS, end, partition_of
from dspex_bus.wire import RetryPolicy, RouterPresence, decode

from .cluster import cluster
from .handlers import executions
from .parts import POOL, Part, router, with_a_clock, worker
from .proxy import Proxy
from .runs import Runs

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(200)]


async def runs_through(
    url: str, parts: list[Part], folder: Path, sessions: int, harm: Callable[[dspex.Client], Awaitable[None]]
) -> list[str]:
    """What is wrong with the history of so many sessions, run while ``harm`` is done."""
    try:
        for part in parts:
            await part.started()
        async with dspex.connect(url, name="runs") as connected:
            runs = Runs(connected, 30, folder, deadly=False)
            async with anyio.create_task_group() as group:
                group.start_soon(harm, connected)
                await runs.go(sessions)
            assert runs.ends["succeeded"] > sessions / 4, runs.ends
            assert runs.ends.total() == sessions
            return [str(violation) for violation in await runs.wrong()]
    finally:
        for part in parts:
            part.kill()


async def leader(client: dspex.Client, stream: str) -> str:
    """The node that leads a stream's replicas; while they choose, when they have."""
    with anyio.fail_after(20):
        while True:
            try:
                answer = json.loads((await client.bus.request(f"$JS.API.STREAM.INFO.{stream}", timeout_s=2)).data)
                if name := answer.get("cluster", {}).get("leader"):
                    return str(name)
            except DspexError:
                pass
            await anyio.sleep(0.1)


async def test_a_cluster_that_loses_a_node_and_then_a_leader(tmp_path: Path) -> None:
    async with cluster(tmp_path) as servers:

        async def harm(client: dspex.Client) -> None:
            for led in (False, True):
                await anyio.sleep(1)
                name = await leader(client, EVENTS)
                node = next(node for node in servers.nodes if (node.name == name) is led)
                node.kill()
                await anyio.sleep(3)
                node.start()

        parts = [
            router(servers.url, tmp_path, name="router-0", arguments=("--replicas", "3")),
            router(servers.url, tmp_path, name="router-1", arguments=("--replicas", "3")),
            worker(servers.url, tmp_path),
        ]
        assert await runs_through(servers.url, parts, tmp_path, 60, harm) == []
        async with dspex.connect(servers.url) as client:
            info = json.loads((await client.bus.request(f"$JS.API.STREAM.INFO.{EVENTS}")).data)
            assert info["config"]["num_replicas"] == 3


async def test_a_router_that_is_cut_off_and_comes_back(tmp_path: Path) -> None:
    """Others take its sessions over; what it still has in hand when it is back is decided already."""
    async with EmbeddedServer() as server, Proxy(server.port) as way:

        async def harm(client: dspex.Client) -> None:
            for away_s in (0.5, 4, 12):
                await anyio.sleep(1)
                way.cut()
                await anyio.sleep(away_s)
                way.mend()

        parts = [router(server.url, tmp_path), router(way.url, tmp_path, name="cut-off"), worker(server.url, tmp_path)]
        assert await runs_through(server.url, parts, tmp_path, 80, harm) == []


async def test_what_a_router_sent_while_it_was_cut_off_is_not_run_when_its_session_has_ended(tmp_path: Path) -> None:
    """It could not know that yet, and was not missed yet when it sent the next attempt, which lay on the way."""
    again = RetryPolicy(attempts=2, initial_s=0.4, jitter=0)
    failing = dspex.native("chaos.act", pool=POOL, script=["fail"], retry=again)
    refusing = dspex.native("chaos.act", pool=POOL, script=["refuse"], work_s=0.2)
    pipeline = dspex.pipeline([dspex.parallel([failing, refusing], save_as="both")])
    async with EmbeddedServer() as server, Proxy(server.port) as way:
        parts = [
            router(way.url, tmp_path, name="cut-off"),
            router(server.url, tmp_path, name="other"),
            worker(server.url, tmp_path),
        ]
        try:
            async with dspex.connect(server.url, name="runs") as connected:
                await parts[0].started()
                theirs = await owned(connected, parts[1])
                await parts[2].started()
                id = next(id for id in map(str, range(1000)) if partition_of(id, DEFAULT_PARTITIONS) in theirs)
                session, partition = await connected.submit(pipeline, session=id), partition_of(id, DEFAULT_PARTITIONS)
                with anyio.fail_after(20):
                    while [step.attempt for step in (await session.view()).steps if step.node == "0-0"] != [2]:
                        await anyio.sleep(0.01)
                way.cut()
                with anyio.fail_after(20):
                    while await connected.bus.last(EVENTS, end(partition, id)) is None:
                        await anyio.sleep(0.01)
                assert await mended(connected, way) > 1_000, "what was said while it was cut off was lost"
                with anyio.fail_after(20):
                    while (await connected.bus.stream_info(TASKS))["messages"]:
                        await anyio.sleep(0.01)
        finally:
            for part in parts:
                part.kill()
    ran = [(execution.node, execution.attempt) for execution in executions(tmp_path / "executions")]
    assert sorted(ran) == [("0-0", 1), ("0-1", 1)]


async def owned(connected: dspex.Client, other: Part) -> frozenset[int]:
    """What the router that is there owns once the other one has come, too."""
    said: dict[str, RouterPresence] = {}
    shared = anyio.Event()

    async def hear(message: Message) -> None:
        presence = decode(RouterPresence, message.data, subject=message.subject)
        said[presence.router] = presence
        if len(said) == 2 and sum(len(presence.partitions) for presence in said.values()) == DEFAULT_PARTITIONS:
            shared.set()

    subscription = await connected.bus.subscribe(ROUTERS, hear)
    with anyio.fail_after(20):
        while not said:
            await anyio.sleep(0.01)
        (first,) = said
        await other.started()
        await shared.wait()
    await subscription.close()
    return frozenset(said[first].partitions)


async def mended(connected: dspex.Client, way: Proxy) -> float:
    """Until what was said on the way before it was mended has come; how long the first of it was under way, in ms."""
    now_ms, lags, over = time.monotonic() * 1000, list[float](), anyio.Event()

    async def said(message: Message) -> None:
        own_ms = decode(RouterPresence, message.data, subject=message.subject).own_ms
        lags.append(now_ms - own_ms)
        # The other router speaks too, and what it says is never so old.
        if max(lags) > 1_000 and sum(lag < 0 for lag in lags) > 4:
            over.set()

    subscription = await connected.bus.subscribe(ROUTERS, said)
    way.mend()
    with anyio.move_on_after(10):
        await over.wait()
    await subscription.close()
    return max(lags)


@pytest.mark.parametrize("which", ["router", "worker"])
async def test_a_clock_that_jumps(tmp_path: Path, which: str) -> None:
    """Ahead and back, by more than a run may take: nothing is lost, early, or late."""
    told = tmp_path / "clock"
    jumping = with_a_clock(told)

    async def harm(_client: dspex.Client) -> None:
        for off_s in (3600, -3600, 20, 0):
            await anyio.sleep(1)
            told.write_text(str(off_s))

    async with EmbeddedServer() as server:
        parts = [
            router(server.url, tmp_path, **(jumping if which == "router" else {})),
            worker(server.url, tmp_path, **(jumping if which == "worker" else {})),
        ]
        assert await runs_through(server.url, parts, tmp_path, 60, harm) == []
