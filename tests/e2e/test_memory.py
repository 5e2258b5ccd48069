"""A DSPy worker's memory stays where it is over thousands of requests."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import anyio
import pytest

import dspex

from .conftest import command, first_line

pytest.importorskip("dspy")
pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SIGNATURE = "context, question -> answer"
MOST_MB = 4.0
"""Two kilobytes left behind by each request are more."""


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def worker_pid(client: dspex.Client) -> int:
    with anyio.fail_after(20):
        while True:
            for pool in (await client.pools()).pools:
                if pool.pool == "dspy" and pool.workers:
                    return pool.workers[0].pid
            await anyio.sleep(0.1)


async def asked(client: dspex.Client, first: int, count: int) -> None:
    gate = asyncio.Semaphore(16)

    async def one(place: int) -> None:
        async with gate:
            inputs = {"context": f"Ada made tool {place}.", "question": f"Who made tool {place}?"}
            constants = {"signature": SIGNATURE, "cache": False}
            found = await client.call("dspy.Predict", inputs=inputs, constants=constants)
            assert "Ada" in dict(found)["answer"]

    async with asyncio.TaskGroup() as group:
        for place in range(first, first + count):
            group.create_task(one(place))


async def test_memory_is_flat(tmp_path: Path) -> None:
    arguments = ("up", "--port", "0", "--data", str(tmp_path), "--native", "0", "--dspy", "1", "--optimize", "0")
    with command(*arguments, "--json") as up:
        async with dspex.connect(json.loads(first_line(up))["server"]) as client:
            await asked(client, 0, 2000)
            pid = await worker_pid(client)
            before = resident_mb(pid)
            await asked(client, 2000, 2000)
            assert await worker_pid(client) == pid
            assert resident_mb(pid) - before < MOST_MB
