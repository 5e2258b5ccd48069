"""Every optimizer that searches: killed in the middle, and cancelled there; scored by functions of the caller."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

import dspex
from dspex_services.cache.asking import clear

from .conftest import command, first_line
from .counted_lm import CountedLM
from .processes import offline_environment
from .test_optimizing_killed import ROWS, kill_at

pytest.importorskip("dspy")
pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(180)]

MODULE = dspex.module("dspy.Predict", signature="context, question -> answer")


def feedback() -> Callable[..., Any]:
    """A function that no worker can import, and that says what was wrong."""

    def metric(example: Any, prediction: Any, trace: Any = None, predictor: Any = None) -> Any:
        right = example.answer == prediction.answer
        said = f"{predictor or 'the program'} should say {example.answer!r}, not {prediction.answer!r}"
        return {"score": float(right), "feedback": "Right." if right else said}

    return metric


@dataclass(frozen=True)
class Search:
    """``shares`` of its price at which it is killed; ``longer`` gives time to cancel it."""

    options: dict[str, Any]
    metric: Any = "exact_match"
    shares: tuple[float, ...] = (0.3, 0.7)
    longer: dict[str, Any] = field(default_factory=dict)


SEARCHES = {
    "gepa": Search({"max_metric_calls": 60, "reflection_minibatch_size": 3}, feedback()),
    "simba": Search(
        {"bsize": 6, "num_candidates": 3, "max_steps": 2},
        lambda example, prediction: float(example.answer == prediction.answer),
    ),
    "copro": Search({"breadth": 4, "depth": 2}),
    "bootstrap_random_search": Search(
        {"num_candidate_programs": 4, "max_labeled_demos": 4}, longer={"num_candidate_programs": 30}
    ),
}


@pytest.fixture
async def lm() -> AsyncIterator[CountedLM]:
    async with CountedLM(takes_s=0.05) as server:
        yield server


@pytest.fixture
async def client(lm: CountedLM, tmp_path: Path) -> AsyncIterator[dspex.Client]:
    arguments = ("up", "--port", "0", "--data", str(tmp_path), "--native", "0", "--dspy", "2", "--json")
    with command(*arguments, environment=offline_environment(**lm.environment)) as up:
        async with dspex.connect(json.loads(first_line(up))["server"]) as connected:
            yield connected


@pytest.mark.parametrize("optimizer", SEARCHES)
async def test_a_killed_search_pays_nothing_twice_and_ends_the_same(
    client: dspex.Client, lm: CountedLM, optimizer: str
) -> None:
    search = SEARCHES[optimizer]
    asked = {"metric": search.metric, "optimizer": optimizer, "seed": 5, "program": "qa", **search.options}
    unbroken = await client.optimize(MODULE, ROWS, **asked)
    paid = lm.paid.copy()
    price = sum(paid.values())
    assert unbroken.usage.calls == price

    await clear(client.bus)
    lm.paid.clear()
    job = await client.start_optimizing(MODULE, ROWS, **asked)
    for share in search.shares:
        await kill_at(client, "optimize", lm, int(share * price))
    with anyio.fail_after(90):
        found = await job.result()
    assert (found.digest, found.score) == (unbroken.digest, unbroken.score)
    assert found.restarts == len(search.shares)
    # What the optimizer itself was asking for as it died has no answer yet, and is asked again.
    assert sum((lm.paid - paid).values()) <= len(search.shares)
    assert not paid - lm.paid


@pytest.mark.parametrize("optimizer", SEARCHES)
async def test_a_cancelled_search_keeps_the_best_so_far(client: dspex.Client, lm: CountedLM, optimizer: str) -> None:
    search = SEARCHES[optimizer]
    asked = {
        "metric": search.metric,
        "optimizer": optimizer,
        "seed": 5,
        "program": "kept",
        **search.options,
        **search.longer,
    }
    job = await client.start_optimizing(MODULE, ROWS, **asked)
    best = None
    with anyio.fail_after(60):
        async for said in job.progress():
            if said.best is not None and said.trials:
                best = said.best
                lm.takes_s = 2.0  # so that it does not end by itself first
                await job.cancel("enough")
                break
        assert best is not None
        assert (await job.session.result()).status == "cancelled"
        while (record := await job.record()) is None or not record.program:
            await anyio.sleep(0.05)
    version = await client.programs.version("kept")
    assert (record.program, version.origin.note) == ("kept@1", "stopped: cancelled")
    assert max(version.origin.scores.values()) >= best
