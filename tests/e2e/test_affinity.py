"""Steps of a session with one worker, and what becomes of them when that worker is killed."""

from __future__ import annotations

import os
import signal

import anyio
import msgspec
import pytest

import dspex

from .conftest import RunningSystem, command, first_line
from .processes import ROOT

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

FOLDER = ROOT / "examples" / "affinity"
INPUT = {"question": "Which relative has the okapi?"}


async def test_a_session_stays_with_its_worker_and_outlives_it(running: RunningSystem, client: dspex.Client) -> None:
    pipeline = dspex.load_pipeline(FOLDER / "ask.yaml")
    line = ("serve", "shelves:handlers", "--size", "3")
    with command(*line, environment=running.environment, cwd=FOLDER) as pool:
        assert "ready" in await anyio.to_thread.run_sync(first_line, pool)
        for _ in range(6):
            output = (await client.run(pipeline, INPUT)).output or {}
            assert output["worker_of_second"] == output["worker"]
            assert (output["built"], output["built_by_second"]) == (True, False)
            assert "giraffe" in output["answer"]

        first, further, *rest = pipeline.steps
        waiting = msgspec.structs.replace(pipeline, steps=(first, further, dspex.wait("killed"), *rest))
        handle = await client.submit(waiting, INPUT)
        async for event in handle.events():
            if event.node == "1":
                break
        home = next(step.worker for step in (await handle.view()).steps if step.node == "0")
        workers = [worker for found in (await client.pools()).pools for worker in found.workers]
        os.kill(next(worker.pid for worker in workers if worker.worker == home), signal.SIGKILL)
        await handle.signal("killed")
        result = await handle.result(timeout_s=20)
        assert result.status == "succeeded"
        output = result.output or {}
        assert output["worker"] == home
        assert output["worker_of_second"] != home
        assert output["built_by_second"] is True
