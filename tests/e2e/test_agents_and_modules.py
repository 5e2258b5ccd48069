"""Examples in folders of their own: an agent with tools on the bus, and a module of two predictors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import RunningSystem, command, first_line
from .processes import ROOT, dspex_here

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples"


def run(running: RunningSystem, file: str, *line: str) -> list[Any]:
    """What a run prints with ``--stream --json``: events and tokens, and last the result."""
    line = ("run", str(EXAMPLES / file), *line, "--stream", "--json")
    done = dspex_here(*line, environment=running.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(said) for said in done.stdout.splitlines()]


def test_an_agent_whose_tools_are_handlers_on_the_bus(running: RunningSystem) -> None:
    with command("serve", "toolbox:handlers", environment=running.environment, cwd=EXAMPLES / "tools") as pool:
        assert "ready" in first_line(pool)
        *said, result = run(running, "tools/agent.yaml", "question=How many articles of lamp are in stock?")
        trajectory = result["output"]["trajectory"]
        assert trajectory["tool_name_0"] == "shop_stock"
        assert trajectory["observation_0"] == {"article": "lamp", "in_stock": 12, "price": 30.0}
        statuses = [line["message"]["text"] for line in said if line.get("message", {}).get("type") == "status"]
        assert statuses == ["uses shop_stock", "shop_stock answered"]
        # What a tool fails with is an observation, and the run goes on.
        result = run(running, "tools/agent.yaml", "question=How many articles of piano are in stock?")[-1]
        assert "no such article" in str(result["output"]["trajectory"]["observation_0"])


@pytest.fixture
def model(running: RunningSystem) -> Iterator[dict[str, str]]:
    """An environment that names the offline LM, as it prints it."""
    with command("offline-lm", "--port", "0", "--json") as lm:
        yield {**running.environment, **json.loads(first_line(lm))}


def test_a_module_of_two_predictors_in_a_pool_of_its_own(running: RunningSystem, model: dict[str, str]) -> None:
    line = ("serve", "twohops:TwoHops", "--pool", "hops")
    with command(*line, environment=model, cwd=EXAMPLES / "own_module") as pool:
        assert "ready" in first_line(pool)
        facts = 'facts=["The pool is by the sea.", "Ada Lovelace designed the pool."]'
        *said, result = run(running, "own_module/ask.yaml", "question=Who designed the pool?", facts)
        assert "Ada Lovelace" in result["output"]["answer"]
        pieces = [line["message"] for line in said if line.get("message", {}).get("type") == "piece"]
        texts = {
            name: "".join(p["text"] for p in pieces if p["predictor"] == name) for name in ("hop", "answer.predict")
        }
        assert texts["hop"] == result["output"]["bridge"]
        assert texts["answer.predict"].endswith(result["output"]["answer"])
