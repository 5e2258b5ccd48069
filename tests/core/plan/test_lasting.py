"""What a run sleeps for certain."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_router.plan import Reference, compile_pipeline, least_ms

from .building import catalog, definition

SPLIT: dict[str, Any] = {"native": "split"}
ONE: dict[str, Any] = {"sleep_s": 1}
TWO: dict[str, Any] = {"sleep_s": 2}
TEN: dict[str, Any] = {"sleep_s": 10}
SUB = {Reference("sub"): definition(TEN, SPLIT, name="sub")}


@pytest.mark.parametrize(
    ("steps", "seconds"),
    [
        ([SPLIT], 0),
        ([ONE, SPLIT, TWO], 3),
        ([{"sequence": [ONE, TWO]}, ONE], 4),
        ([{"parallel": [ONE, TEN, TWO]}], 10),
        ([{"parallel": [ONE, TEN, TWO], "timeout_s": 5, "join": "best_effort", "save_as": "x"}], 5),
        ([{"parallel": [TEN, ONE, TWO], "join": "any"}], 1),
        ([{"parallel": [TEN, ONE, TWO], "join": "quorum", "quorum": 2, "save_as": "x"}], 2),
        ([{"map": "text", "do": [TEN]}], 0),
        ([{"branch": [{"when": "true", "do": [TEN]}]}, ONE], 1),
        ([{"loop": [TWO], "until": "true"}], 2),
        ([{"pipeline": "sub"}, ONE], 11),
        ([{"wait": "go", "timeout_s": 5}], 0),
    ],
)
def test_least(steps: list[dict[str, Any]], seconds: int) -> None:
    plan = compile_pipeline(definition(*steps), catalog(), input_fields={"text"}, definitions=SUB)
    assert least_ms(plan.root) == 1000 * seconds
