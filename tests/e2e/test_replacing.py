"""Runs go on while the workers of their pool are replaced, as ``dspex serve`` was told to."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import dspex

from .conftest import RunningSystem, command, first_line

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

STEPS = dspex.pipeline([dspex.native("brisk.echo"), dspex.native("brisk.echo")], name="brisk")
BRISK = """
import os
import anyio
import dspex

handlers = dspex.Handlers()

@handlers.handler("brisk.echo")
async def echo(values: dict) -> dict:
    await anyio.sleep(0.01)
    return {"pid": os.getpid(), "number": values["number"]}
"""


async def test_no_run_fails_through_three_replacements(running: RunningSystem, tmp_path: Any) -> None:
    (tmp_path / "brisk.py").write_text(BRISK)
    pids: set[int] = set()
    flowing = True

    async def flow(client: dspex.Client, durability: Any) -> None:
        number = 0
        while flowing:
            number += 1
            result = await client.run(STEPS, {"number": number}, durability=durability, timeout_s=20)
            assert result.status == "succeeded"
            assert result.output is not None
            assert result.output["number"] == number
            pids.add(result.output["pid"])

    serve = ("serve", "brisk:handlers", "--size", "2", "--slots", "4", "--recycle-after-tasks", "50")
    with command(*serve, environment=running.environment, cwd=tmp_path) as pool:
        assert "ready" in first_line(pool)
        async with dspex.connect(running.url) as client, anyio.create_task_group() as group:
            for durability in ("stored", "none", "stored", "none"):
                group.start_soon(flow, client, durability)
            with anyio.fail_after(50):
                while len(pids) < 5:
                    await anyio.sleep(0.1)
            flowing = False
        async with dspex.connect(running.url) as client:
            (brisk,) = [pool for pool in (await client.pools()).pools if pool.pool == "brisk"]
            assert len([worker for worker in brisk.workers if worker.state == "ready"]) >= 2
            assert all(worker.redelivered == 0 for worker in brisk.workers)
