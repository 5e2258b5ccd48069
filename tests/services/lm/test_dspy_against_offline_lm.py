"""DSPy's own modules and adapters, unchanged, with the offline LM as their model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from dspex_services.offline_lm import MODEL

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
dspy = pytest.importorskip("dspy")
pydantic = pytest.importorskip("pydantic")

DOCS = [
    "[lease.md] The lease lasts 10 seconds. The owner renews it.",
    "[pool.md] A worker sends a heartbeat every 5 seconds.\nAda Lovelace designed the pool.",
]
QUESTION = "How often does a worker send a heartbeat?"
HEARTBEAT = "A worker sends a heartbeat every 5 seconds."


class Part(pydantic.BaseModel):  # type: ignore[misc]
    name: str
    size: int


@pytest.fixture(params=["ChatAdapter", "JSONAdapter", "XMLAdapter"])
def lm(request: pytest.FixtureRequest, offline_url: str) -> Iterator[Any]:
    model = dspy.LM(f"openai/{MODEL}", api_base=offline_url, api_key="none", cache=False, num_retries=0)
    with dspy.context(lm=model, adapter=getattr(dspy, request.param)()):
        yield model


def test_predict_answers_the_question_asked(lm: Any) -> None:
    predict = dspy.Predict("context: list[str], question -> answer")
    assert predict(context=DOCS, question=QUESTION).answer == HEARTBEAT
    assert "10 seconds" in predict(context=DOCS, question="How long does the lease last?").answer
    assert len(lm.history) == 2, "no adapter had to ask twice"


def test_typed_outputs_parse_at_the_first_try(lm: Any) -> None:
    signature = dspy.Signature(
        "context: list[str], question -> answer, citations: list[int], sources: list[str], seconds: int, share: float, "
        "ok: bool, kind: Literal['lease', 'heartbeat'], counts: dict[str, int], note: str | None, tags: list[str]",
        custom_types={"Literal": Literal},
    )
    found = dspy.ChainOfThought(signature)(context=DOCS, question=QUESTION)
    assert found.answer == HEARTBEAT
    assert (found.citations, found.sources, found.seconds) == ([2], ["pool.md"], 5)
    assert (found.ok, found.kind) == (True, "heartbeat")
    assert "pool.md" in found.reasoning
    assert all(type(count) is int for count in found.counts.values())
    assert len(lm.history) == 1


@pytest.mark.parametrize("adapter", ["ChatAdapter", "JSONAdapter"])
def test_a_type_of_the_users_own_is_filled_in(offline_url: str, adapter: str) -> None:
    model = dspy.LM(f"openai/{MODEL}", api_base=offline_url, api_key="none", cache=False)
    signature = dspy.Signature("context: list[str] -> parts: list[Part]", custom_types={"Part": Part})
    with dspy.context(lm=model, adapter=getattr(dspy, adapter)()):
        found = dspy.Predict(signature)(context=DOCS)
    assert [type(part) for part in found.parts] == [Part]
    assert found.parts[0].size == 10
    assert len(model.history) == 1


def test_demos_that_answer_in_few_words_make_it_answer_so(lm: Any) -> None:
    predict = dspy.Predict("context: list[str], question -> answer")
    predict.demos = [dspy.Example(context=["Kurt built it."], question="Who built it?", answer="Kurt")]
    assert predict(context=DOCS, question="Who designed the pool?").answer == "Ada Lovelace"


def search(query: str, k: int = 3) -> list[str]:
    """Search the documents for passages."""
    return DOCS if "heartbeat" in query else []


def calculate(expression: str) -> float:
    """Evaluate an arithmetic expression."""
    return {"12 * (3 + 4)": 84.0}[expression]


def broken(query: str) -> str:
    """Find a heartbeat of a worker."""
    raise RuntimeError("down")


def calls(found: Any) -> list[str]:
    return [value for key, value in found.trajectory.items() if key.startswith("tool_name")]


def test_react_calls_the_fitting_tool_once_and_reads_the_answer_off(lm: Any) -> None:
    react = dspy.ReAct("question -> answer", tools=[search, calculate], max_iters=5)
    found = react(question=QUESTION)
    assert calls(found) == ["search", "finish"]
    assert found.answer == HEARTBEAT
    found = react(question="What is 12 * (3 + 4)?")
    assert calls(found) == ["calculate", "finish"]
    assert found.answer in ("84", "84.0")


def test_react_tries_another_tool_when_one_fails(lm: Any) -> None:
    found = dspy.ReAct("question -> answer", tools=[broken, search], max_iters=5)(question=QUESTION)
    assert calls(found) == ["broken", "search", "finish"]
    assert found.answer == HEARTBEAT


def test_the_anthropic_route(offline_url: str) -> None:
    model = dspy.LM(f"anthropic/{MODEL}", api_base=offline_url, api_key="none", cache=False)
    with dspy.context(lm=model):
        assert (
            dspy.Predict("context: list[str], question -> answer")(context=DOCS, question=QUESTION).answer == HEARTBEAT
        )


@pytest.mark.anyio
async def test_async_calls(offline_url: str) -> None:
    model = dspy.LM(f"openai/{MODEL}", api_base=offline_url, api_key="none", cache=False)
    with dspy.context(lm=model):
        found = await dspy.ChainOfThought("context: list[str], question -> answer").acall(
            context=DOCS, question=QUESTION
        )
    assert found.answer == HEARTBEAT
