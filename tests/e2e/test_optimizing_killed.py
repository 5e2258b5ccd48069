"""A job whose worker is killed goes on, pays for nothing twice, and comes to the program that it would have made."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

import dspex
from dspex_services.cache.asking import clear

from .conftest import command, first_line
from .counted_lm import CountedLM
from .processes import offline_environment

pytest.importorskip("dspy")
pytestmark = [pytest.mark.anyio, pytest.mark.slow]

PEOPLE = ["Ada Lovelace", "Kurt Goedel", "Emmy Noether", "Alan Turing", "Grace Hopper", "Mary Shelley", "Sofia Kova"]
ROWS = [
    {"context": f"{person} made the {place}th tool.", "question": f"Who made the {place}th tool?", "answer": person}
    for place, person in enumerate(PEOPLE * 2)
]
MODULE = dspex.module("dspy.ChainOfThought", signature="context, question -> answer")


@pytest.fixture
async def lm() -> AsyncIterator[CountedLM]:
    async with CountedLM(takes_s=0.05) as server:
        yield server


async def worker_pid(client: dspex.Client, name: str) -> int:
    with anyio.fail_after(20):
        while True:
            for pool in (await client.pools()).pools:
                if pool.pool == name:
                    for worker in pool.workers:
                        if worker.state == "ready":
                            return worker.pid
            await anyio.sleep(0.1)


async def kill_at(client: dspex.Client, pool: str, lm: CountedLM, calls: int) -> None:
    """Kill -9 a worker of the pool once the model has answered that often."""
    with anyio.fail_after(40):
        while sum(lm.paid.values()) < calls:
            await anyio.sleep(0.01)
    pid = await worker_pid(client, pool)
    os.kill(pid, signal.SIGKILL)
    with anyio.fail_after(20):
        while await worker_pid(client, pool) == pid:
            await anyio.sleep(0.1)


async def test_a_job_killed_three_times_pays_nothing_twice_and_ends_the_same(lm: CountedLM, tmp_path: Path) -> None:
    arguments = ("up", "--port", "0", "--data", str(tmp_path), "--native", "0", "--dspy", "2", "--json")
    with command(*arguments, environment=offline_environment(**lm.environment)) as up:
        async with dspex.connect(json.loads(first_line(up))["server"]) as client:
            asked = {"metric": "exact_match", "optimizer": "miprov2", "num_candidates": 4, "seed": 5, "program": "qa"}
            unbroken = await client.optimize(MODULE, ROWS, **asked)
            paid = lm.paid.copy()  # samples of one question are asked, and paid for, several times
            price = sum(paid.values())
            assert unbroken.usage.calls == price

            await clear(client.bus)
            lm.paid.clear()
            job = await client.start_optimizing(MODULE, ROWS, **asked)
            for share in (0.2, 0.5, 0.75):
                await kill_at(client, "optimize", lm, int(share * price))
            with anyio.fail_after(50):
                found = await job.result()
            assert found.digest == unbroken.digest
            assert found.score == unbroken.score
            assert found.restarts == 3
            # Killed while it asked for a proposal itself, it has to ask again: no answer had come.
            assert sum((lm.paid - paid).values()) <= 1
            assert found.usage.calls <= price + 1


async def test_a_job_outlives_the_workers_that_its_calls_go_to(lm: CountedLM, tmp_path: Path) -> None:
    arguments = ("up", "--port", "0", "--data", str(tmp_path), "--native", "0", "--dspy", "2", "--json")
    with command(*arguments, environment=offline_environment(**lm.environment)) as up:
        async with dspex.connect(json.loads(first_line(up))["server"]) as client:
            job = await client.start_optimizing(
                MODULE, ROWS, metric="exact_match", optimizer="bootstrap_random_search", num_candidate_programs=4
            )
            await kill_at(client, "dspy", lm, 20)
            with anyio.fail_after(50):
                found = await job.result()
            assert (found.restarts, found.stopped) == (0, "")
            assert [trial.examples for trial in found.trials] == [len(ROWS)] * 7
