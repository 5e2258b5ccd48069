"""What only one implementation of ``rag`` has, and what the router makes of that."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

import dspex
from dspex_bus.errors import DspexError

from .conftest import World

pytestmark = pytest.mark.anyio

QUESTION = {"question": "Where are provider keys kept?"}
ASKED: dict[str, Any] = {"signature": "question -> answer", "search": {"folder": ".", "k": 2}}
DEMO = {"context": ["[a] b"], "question": "b?", "reasoning": "r", "answer": "b", "citations": [1]}


class Rag(dspy.Module):  # type: ignore[misc]
    """As anyone would write it in plain DSPy."""

    def __init__(self) -> None:
        super().__init__()
        self.respond = dspy.ChainOfThought("context: list[str], question -> answer, citations: list[int]")


async def test_a_stored_program_is_used_and_recorded_and_needs_dspy(world: World) -> None:
    plain = Rag()
    plain.respond.predict.demos = [dspy.Example(**DEMO)]
    plain.respond.predict.signature = plain.respond.predict.signature.with_instructions("Answer in one word.")
    version = await world.client.programs.put("answerer", plain.dump_state())
    world.asked.clear()
    made = await world.client.call("rag", inputs=QUESTION, constants={**ASKED, "program": "answerer"})
    assert (made.implementation, len(made["passages"])) == ("dspy", 2)
    told = str(world.asked[0]["messages"])
    assert "Answer in one word." in told
    assert "[a] b" in told
    run = await world.client.run(dspex.pipeline([dspex.call("rag", program="answerer", **ASKED)]), QUESTION)
    session = await world.client.session(run.session).view()
    assert session.steps[-1].program == version.digest
    with pytest.raises(DspexError) as caught:
        await world.client.call(
            "rag", inputs=QUESTION, constants={**ASKED, "program": "answerer"}, implementation="native"
        )
    assert caught.value.code == "unsupported_natively"


async def test_another_adapter_needs_dspy_and_an_assertion_native(world: World) -> None:
    made = await world.client.call("rag", inputs=QUESTION, constants={**ASKED, "adapter": "json"})
    assert made.implementation == "dspy"
    held = {**ASKED, "assert": ["size(citations) > 0"]}
    made = await world.client.call("rag", inputs=QUESTION, constants=held)
    assert (made.implementation, bool(made["citations"])) == ("native", True)


async def test_what_is_missing_is_said_before_the_run(world: World) -> None:
    for constants, inputs, field in (
        (ASKED, {"query": "x"}, "question"),
        ({"signature": "q -> a"}, {"q": "x"}, "search"),
    ):
        with pytest.raises(DspexError) as caught:
            await world.client.run(dspex.pipeline([dspex.call("rag", **constants)]), inputs)
        assert caught.value.code == "missing_field"
        assert caught.value.details["field"] == field


@pytest.mark.parametrize("implementation", ["native", "dspy"])
async def test_usage_counts_the_embeddings_too(world: World, implementation: Any) -> None:
    search = {"over": "facts", "method": "vector", "embedder": "openai/offline-extractive"}
    constants = {"signature": "question, facts: list[str] -> answer", "search": search}
    inputs = {"question": "Who?", "facts": [f"A fact told to {implementation}.", "Another one."]}
    made = await world.client.call("rag", inputs=inputs, constants=constants, implementation=implementation)
    assert made.usage is not None
    assert made.usage.calls == 3, "the documents, the question, and the answer"
