"""The cache of a whole system: a call's option, a step's, a step of its own; shown and emptied by a command."""

from __future__ import annotations

import json
from typing import Any

import pytest

import dspex

from .conftest import RunningSystem
from .processes import dspex as command

pytestmark = pytest.mark.anyio

ASKED = {"question": "What is 6 * 7?"}


def cache(running: RunningSystem, *arguments: str) -> dict[str, Any]:
    done = command("cache", *arguments, "--json", environment=running.environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
async def test_what_is_kept_is_shown_and_cleared(running: RunningSystem, client: dspex.Client) -> None:
    cache(running, "clear")
    options = {"signature": "question -> answer", "cache": 60}
    replies = [await client.call("predict", constants=options, inputs=ASKED) for _ in range(2)]
    assert [reply["answer"] for reply in replies] == ["42", "42"]
    usages = [reply.usage for reply in replies]
    assert [(usage.calls, usage.saved_calls) for usage in usages if usage] == [(1, 0), (0, 1)]

    shown = cache(running, "stats")
    assert shown["stored"] == {"lm": 1, "step": 0, "value": 0}
    assert shown["bytes"] > 0
    assert sum(worker.get("misses", 0) for worker in shown["workers"]) >= 1
    assert command("cache", "stats", environment=running.environment).stdout.count("replies of models") == 1

    assert cache(running, "clear", "--kind", "step") == {"cleared": 0}
    assert cache(running, "clear") == {"cleared": 1}
    assert cache(running, "stats")["stored"]["lm"] == 0
    anew = await client.call("predict", constants=options, inputs=ASKED)
    assert anew.usage is not None
    assert anew.usage.calls == 1


async def test_a_step_and_a_step_of_its_own(running: RunningSystem, client: dspex.Client) -> None:
    cache(running, "clear")
    pipeline = dspex.pipeline(
        [
            dspex.native("predict", signature="question -> answer", cache_s=60),
            dspex.native("cache", key="today", ttl=60, inputs={"value": "answer"}),
        ],
        name="cached",
    )
    for _ in range(2):
        result = await client.run(pipeline, ASKED)
        assert result.output is not None
        assert result.output["value"] == "42"
    assert result.output["hit"] is True
    assert cache(running, "stats")["stored"] == {"lm": 0, "step": 1, "value": 1}
