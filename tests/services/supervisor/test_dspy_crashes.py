"""A user's DSPy module takes its worker with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dspex_bus import Message, subjects
from dspex_bus.wire import StepSucceeded, TokenMessage, TokensEnded, TokensStarted, decode_tokens
from dspex_services.supervisor import DSPY

from ..rig import Rig
from .supervised import spec, supervised

pytest.importorskip("dspy")
pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.mark.parametrize("how", ["exit", "fault", "memory"])
async def test_a_crash_costs_one_redelivery_and_the_stream_has_its_end(rig: Rig, tmp_path: Path, how: str) -> None:
    model = {"DSPEX_MODEL": "openai/none", "DSPEX_BASE_URL": "http://127.0.0.1:9/v1"}
    pool = spec(rig, handlers=(DSPY,), modules=("crashing:Crashes",), environment=model)
    async with supervised(rig, pool) as supervisor:
        task = rig.task("crashing.Crashes", {"how": how, "first": str(tmp_path / "first")}, stream=True)
        said: list[TokenMessage] = []

        async def hear(message: Message) -> None:
            said.append(decode_tokens(message.data, subject=message.subject))
            rig.changed()

        tokens = subjects.token_stream(task.session, task.node, task.attempt)
        listening = await rig.bus.subscribe(tokens, hear)
        await rig.send(task)
        outcome = await rig.outcome(task, within_s=30)
        assert isinstance(outcome, StepSucceeded)
        await rig.until(lambda: isinstance(said[-1], TokensEnded))
        # What a worker says as it dies may not have left it.
        assert [type(one) for one in said][-2:] == [TokensStarted, TokensEnded]
        await rig.seen(lambda: rig.presences[-1].redelivered == 1)
        assert supervisor.restarts == 1
        await listening.close()
