"""Random runs while servers of a cluster are killed, routers are cut off, and clocks jump."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

import dspex
from dspex_bus import EmbeddedServer
from dspex_bus.errors import DspexError
from dspex_bus.streams import EVENTS

from .cluster import cluster
from .parts import Part, router, with_a_clock, worker
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
