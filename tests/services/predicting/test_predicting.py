"""Native predictors against a scripted model: what is asked, and asked again."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from scripted_server import Answer, ScriptedServer, playing

from dspex_bus.wire import StepFailed, StepSucceeded
from dspex_services.native.models import Models
from dspex_services.native.pool import native_handlers

from ..rig import Rig

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

pytestmark = pytest.mark.anyio

ASK = {"signature": "question -> answer, score: int[ge=0, le=10]"}
WHY = {"question": "why"}
SHORT = {"that": "size(answer) < 10", "say": "the answer must be shorter than ten letters"}


def said(text: str) -> Answer:
    message = {"role": "assistant", "content": text}
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "served",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
    }
    return Answer([json.dumps(body).encode()])


def chat(answer: str, score: Any) -> str:
    return f"[[ ## answer ## ]]\n{answer}\n\n[[ ## score ## ]]\n{score}\n\n[[ ## completed ## ]]"


def as_json(answer: str, score: Any) -> str:
    return json.dumps({"answer": answer, "score": score})


Ask = Callable[..., Any]


@asynccontextmanager
async def asking(
    rig: Rig, replies: Sequence[str], model: str = "openai/any"
) -> AsyncIterator[tuple[Ask, ScriptedServer]]:
    """A worker whose model gives these replies, and what runs a step on it."""
    async with playing([said(reply) for reply in replies]) as lm:
        models = Models({"DSPEX_MODEL": model, "DSPEX_BASE_URL": lm.url, "OPENAI_API_KEY": "k"})
        async with rig.worker(native_handlers(models)):

            async def ask(handler: str = "predict", inputs: Any = WHY, **options: Any) -> Any:
                return await rig.run(handler, inputs, options={**ASK, **options})

            yield ask, lm


async def test_an_output_that_does_not_hold_is_asked_for_again_with_what_is_wrong(rig: Rig) -> None:
    first = chat("far too long an answer", 3)
    async with asking(rig, [first, chat("short", 3)]) as (ask, lm):
        outcome = await ask(**{"assert": [SHORT, "score > 0"]})
    assert isinstance(outcome, StepSucceeded)
    assert outcome.outputs == {"answer": "short", "score": 3}
    assert outcome.usage is not None
    assert outcome.usage.calls == 2
    before, after = (seen.body["messages"] for seen in lm.seen)
    assert after[: len(before)] == before
    assert after[len(before)] == {"role": "assistant", "content": first}
    told = after[-1]["content"]
    assert SHORT["say"] in told
    assert "score > 0" not in told
    assert told.endswith("the marker for `[[ ## completed ## ]]`.")


async def test_after_the_last_try_the_error_has_the_raw_outputs(rig: Rig) -> None:
    async with asking(rig, [chat("no", 3)]) as (ask, lm):
        outcome = await ask(**{"assert": ["score > 5", "question == 'why'"]})
        assert len(lm.seen) == 3
        assert isinstance(outcome, StepFailed)
        assert (outcome.error.code, outcome.error.retryable) == ("assertion_failed", False)
        assert outcome.error.details == {
            "failed": [{"that": "score > 5", "say": "this must be true: score > 5"}],
            "outputs": {"answer": "no", "score": 3},
            "raw": chat("no", 3),
            "tries": 3,
        }
        assert "score > 5" in outcome.error.message
        once = await ask(**{"assert": ["score > 5"], "tries": 1})
        assert once.error.details["tries"] == 1
        assert len(lm.seen) == 4


async def test_a_limit_of_the_signature_is_told_like_an_assertion(rig: Rig) -> None:
    async with asking(rig, [chat("no", 11), chat("no", 7)]) as (ask, lm):
        outcome = await ask(tries=2)
    assert outcome.outputs == {"answer": "no", "score": 7}
    assert [seen.body["messages"][0] for seen in lm.seen] == [lm.seen[0].body["messages"][0]] * 2
    assert "the field `score`" in lm.seen[1].body["messages"][-1]["content"]
    async with asking(rig, [chat("no", 11), as_json("no", 12)]) as (ask, lm):
        outcome = await ask(tries=2)
    assert (outcome.error.code, outcome.error.details["failed"][0]["that"]) == ("assertion_failed", "score")


async def test_what_is_said_in_json_is_corrected_in_json(rig: Rig) -> None:
    async with asking(rig, ["no layout", as_json("a long answer", 1), as_json("brief", 1)]) as (ask, lm):
        outcome = await ask("chain_of_thought", signature="question -> answer", **{"assert": [SHORT]})
        assert outcome.error.code == "reply_malformed"  # there is no reasoning in any of them
        lm.seen.clear()
    replies = ["no layout", '{"reasoning": "", "answer": "a long answer"}', '{"reasoning": "", "answer": "brief"}']
    async with asking(rig, replies) as (ask, lm):
        outcome = await ask("chain_of_thought", signature="question -> answer", **{"assert": [SHORT]})
    assert outcome.outputs == {"reasoning": "", "answer": "brief"}
    assert lm.seen[2].body["messages"][:2] == lm.seen[1].body["messages"]
    assert lm.seen[2].body["messages"][-1]["content"].endswith("`reasoning`, then `answer`.")


async def test_a_condition_that_cannot_be_evaluated_does_not_hold(rig: Rig) -> None:
    async with asking(rig, [chat("no", 3)]) as (ask, _):
        outcome = await ask(**{"assert": ["score / 0 > 1"], "tries": 1})
    assert outcome.error.code == "assertion_failed"
    assert "score / 0 > 1" in outcome.error.message


@pytest.mark.parametrize("condition", ["score >", "absent > 1"])
async def test_what_is_no_condition_on_the_fields_asks_nothing(rig: Rig, condition: str) -> None:
    async with asking(rig, [chat("no", 3)]) as (ask, lm):
        wrong = await ask(**{"assert": [condition]})
        assert not lm.seen
    assert (wrong.error.code, wrong.error.retryable) == ("invalid_condition", False)


async def test_a_condition_may_bind_names_of_its_own(rig: Rig) -> None:
    async with asking(rig, [chat("no", 3)]) as (ask, _):
        outcome = await ask(**{"assert": ["[1, 2, 3].exists(each, each == score)"]})
    assert outcome.outputs == {"answer": "no", "score": 3}


@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-3.5-turbo", "gpt-4.1", "local"])
@pytest.mark.parametrize("outputs", ["answer, score: float, tags: list[str]", "facts: dict[str, int]"])
async def test_the_second_try_in_json_is_dspys_request_to_the_letter(rig: Rig, model: str, outputs: str) -> None:
    dspy = pytest.importorskip("dspy")
    async with asking(rig, ["no layout"], f"openai/{model}") as (ask, lm):
        outcome = await ask(signature=f"question -> {outputs}")
        assert outcome.error.code == "reply_malformed"
        theirs = dspy.LM(f"openai/{model}", api_base=lm.url, api_key="k", cache=False, num_retries=0)
        with (
            dspy.context(lm=theirs, adapter=dspy.ChatAdapter(), disable_history=True),
            pytest.raises(dspy.AdapterParseError),
        ):
            await dspy.Predict(f"question -> {outputs}").acall(**WHY)
    ours, other = ([seen.body for seen in lm.seen[:2]], [seen.body for seen in lm.seen[2:]])
    assert ours == other


@pytest.mark.parametrize("operation", ["predict", "chain_of_thought"])
async def test_a_constant_that_nobody_reads_is_refused(rig: Rig, operation: str) -> None:
    async with asking(rig, []) as (ask, lm):
        outcome = await ask(operation, temprature=0.2)
    assert (outcome.error.code, outcome.error.retryable) == ("invalid_input", False)
    assert "temprature" in outcome.error.message
    assert not lm.seen
