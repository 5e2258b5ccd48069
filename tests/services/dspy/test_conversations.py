"""Conversations across pools, workers and implementations, as the model sees them."""

from __future__ import annotations

import json
from typing import Any

import anyio
import dspy
import pytest
from dspy_system import System
from scripted_server import Answer, Seen, playing

import dspex
from dspex_services.native.models import Models
from dspex_services.native.pool import native_handlers

pytestmark = pytest.mark.anyio


class Memory(dspy.Module):  # type: ignore[misc]
    """Answers with how much it was told before."""

    def forward(self, question: str, history: Any = None) -> Any:
        return dspy.Prediction(answer=str(len(history.messages)))


@pytest.fixture
def modules() -> list[str]:
    return [f"{__name__}:Memory"]


def answered(number: int, seen: Seen) -> Answer:
    text = f"[[ ## reasoning ## ]]\nr\n\n[[ ## answer ## ]]\nanswer {number}\n\n[[ ## completed ## ]]"
    message = {"role": "assistant", "content": text}
    body = {"id": "1", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return Answer(pieces=[json.dumps(body).encode()])


ASK = {"signature": "question -> answer", "remember": True}


async def ask(system: System, step: Any, question: str, **options: Any) -> str:
    result = await system.client.run(dspex.pipeline([step]), {"question": question}, timeout_s=20, **options)
    assert result.output is not None
    return str(result.output["answer"])


async def test_one_conversation_on_many_workers_natively_and_in_dspy(system: System) -> None:
    async with playing(answered) as model:
        environment = {"DSPEX_MODEL": "openai/m", "DSPEX_BASE_URL": model.url}
        for pool in ("one", "two"):
            await system.serve(native_handlers(Models(environment)), pool)
        steps = [
            dspex.native("predict", pool="one", **ASK),
            dspex.native("predict", pool="two", **ASK),
            dspex.native("chain_of_thought", pool="one", **ASK),
        ]
        for number, step in enumerate(steps):
            assert await ask(system, step, f"question {number}", thread="ada") == f"answer {number}"
        told = [[message["content"] for message in seen.body["messages"]] for seen in model.seen]
        assert [len(messages) for messages in told] == [2, 4, 6]
        assert told[2][1].startswith("[[ ## question ## ]]\nquestion 0")
        assert told[2][4].startswith("[[ ## reasoning ## ]]\nNone\n\n[[ ## answer ## ]]\nanswer 1")

        own = dspex.module(f"{__name__}:Memory", remember=True)
        assert await ask(system, own, "how many?", thread="ada") == "3"
        thread = await system.client.threads.get("ada")
        assert [turn.fields["answer"] for turn in thread.turns] == ["answer 0", "answer 1", "answer 2", "3"]

        # Another thread, and a run with none, know nothing of it; nor does another tenant.
        assert await ask(system, own, "how many?", thread="bob") == "0"
        assert await ask(system, own, "how many?") == "0"
        assert await ask(system, own, "how many?", thread="ada", tenant="acme") == "0"


async def test_a_session_has_a_conversation_of_its_own(system: System) -> None:
    own = dspex.module(f"{__name__}:Memory", remember=True)
    pipeline = dspex.pipeline([own, dspex.wait("more"), own])
    handle = await system.client.submit(pipeline, {"question": "?"})
    await handle.signal("more", {"question": "again?"})
    with anyio.fail_after(15):
        result = await handle.result()
    assert result.output is not None
    assert result.output["answer"] == "1"
    thread = await system.client.threads.get(handle.id, of_session=True)
    assert [turn.fields for turn in thread.turns] == [
        {"question": "?", "answer": "0"},
        {"question": "again?", "answer": "1"},
    ]


async def test_dspy_s_modules_remember_too(system: System) -> None:
    for module in ("dspy.Predict", "dspy.ChainOfThought", "dspy.ReAct"):
        step = dspex.module(module, **ASK)
        await ask(system, step, "What is 1 plus 2?", thread="sums")
    thread = await system.client.threads.get("sums")
    assert [set(turn.fields) for turn in thread.turns] == [
        {"question", "answer"},
        {"question", "reasoning", "answer"},
        {"question", "reasoning", "answer"},
    ]
    assert await ask(system, dspex.module(f"{__name__}:Memory", remember=True), "?", thread="sums") == "3"


async def test_the_signature_s_own_field_for_the_history_is_filled(system: System) -> None:
    own = {"signature": "question, told: dspy.History -> answer", "remember": True}
    for question in ("What is 1 plus 2?", "What is 3 plus 4?"):
        await ask(system, dspex.module("dspy.Predict", **own), question, thread="own")
    thread = await system.client.threads.get("own")
    assert [turn.fields["question"] for turn in thread.turns] == ["What is 1 plus 2?", "What is 3 plus 4?"]
    assert [set(turn.fields) for turn in thread.turns] == [{"question", "answer"}] * 2


async def test_what_cannot_remember_says_so(system: System) -> None:
    error = await system.refused("dspy.MultiChainComparison", {"question": "?"}, **ASK)
    assert error.code == "cannot_remember"
    own = {**ASK, "signature": "history, question -> answer"}
    error = await system.refused("dspy.Predict", {"question": "?", "history": "x"}, **own)
    assert error.code == "invalid_input"
