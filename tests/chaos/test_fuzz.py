"""A short run of the fuzzer; `python -m tests.chaos.fuzz` does longer ones, and repeats a seed."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from .fuzz import PARK_AFTER_S, Fuzz
from .plans import Plans
from .waits import Waits

pytestmark = pytest.mark.anyio

SEED = 20


def test_a_seed_is_a_pipeline() -> None:
    one, same, other = (Plans(random.Random(seed)).pipeline() for seed in (1, 1, 2))
    assert msgspec.json.encode(one) == msgspec.json.encode(same) != msgspec.json.encode(other)


@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_nothing_is_lost_under_random_faults(tmp_path: Path) -> None:
    run = Fuzz(SEED, 80, 0.7, tmp_path)
    wrong = await run.run()
    assert [str(violation) for violation in wrong] == [], run.what()
    assert run.runs.ends.total() == 80
    assert len(run.faults) > 2


@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_no_session_that_waits_is_forgotten_under_random_faults(tmp_path: Path) -> None:
    run = Fuzz(SEED, 60, 0.5, tmp_path, PARK_AFTER_S, Waits)
    wrong = await run.run()
    assert [str(violation) for violation in wrong] == [], run.what()
    assert run.runs.ends.total() == 60
    assert len(run.faults) > 2
