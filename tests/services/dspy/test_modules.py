"""Every DSPy module as a step, against the offline LM."""

from __future__ import annotations

import json
import logging
import sys
from types import SimpleNamespace

import anyio
import dspy
import dspy_shapes as shapes
import pytest
from dspy_system import System

import dspex
from dspex_bus.errors import DspexError
from dspex_services.dspy.metering import Meter
from dspex_services.dspy.modules import expand
from dspex_services.dspy.pool import user_module
from dspex_services.dspy.programs import is_lone
from dspex_services.dspy.sandbox import sandbox_factory
from dspex_services.errors import SetupError
from dspex_services.handlers import Handlers

pytestmark = pytest.mark.anyio

CONTEXT = "A worker sends a heartbeat every 5 seconds. The lease lasts 10 seconds. Ada Lovelace designed the pool."
QUESTION = "How often does a worker send a heartbeat?"
HEARTBEAT = "A worker sends a heartbeat every 5 seconds."
SIGNATURE = "context, question -> answer"


BOTH = {"context": CONTEXT, "question": QUESTION}


async def test_predict_in_every_adapter(system: System) -> None:
    for adapter in ("chat", "json", "xml", "baml"):
        found = await system.step("dspy.Predict", BOTH, signature=SIGNATURE, adapter=adapter)
        assert found == {"answer": HEARTBEAT}, adapter
    found = await system.step("dspy.Predict", BOTH, signature=SIGNATURE, adapter="two_step")
    assert set(found) == {"answer"}
    error = await system.refused("dspy.Predict", BOTH, signature=SIGNATURE, adapter="yaml")
    assert error.code == "invalid_input"
    assert "two_step" in error.message


async def test_several_completions(system: System) -> None:
    found = await system.step("dspy.Predict", BOTH, signature=SIGNATURE, n=2)
    assert found["completions"] == [{"answer": HEARTBEAT}] * 2


async def test_demos_for_all_predictors_or_for_one(system: System) -> None:
    inputs = {"context": CONTEXT, "question": "Who designed the pool?"}
    demo = {"context": "Kurt built it.", "question": "Who built it?", "answer": "Kurt"}
    found = await system.step("dspy.Predict", inputs, signature=SIGNATURE, demos=[demo])
    assert found["answer"] == "Ada Lovelace"
    found = await system.step("dspy.Predict", inputs, signature=SIGNATURE, demos={"self": [demo]})
    assert found["answer"] == "Ada Lovelace"
    error = await system.refused("dspy.Predict", inputs, signature=SIGNATURE, demos={"nobody": [demo]})
    assert (error.code, "self" in error.message) == ("invalid_input", True)


async def test_typed_outputs_and_lm_parameters(system: System) -> None:
    signature = "context, question -> seconds: int, kind: Literal['lease', 'heartbeat'], facts: list[str]"
    found = await system.step("dspy.ChainOfThought", BOTH, signature=signature, lm={"top_p": 0.5, "seed": 3})
    assert (found["seconds"], found["kind"], type(found["facts"])) == (5, "heartbeat", list)
    error = await system.refused("dspy.Predict", BOTH, signature=SIGNATURE, lm={"api_base": "http://elsewhere"})
    assert (error.code, error.details["parameter"]) == ("invalid_input", "api_base")


@pytest.mark.parametrize(
    ("module", "field", "value"),
    [
        ("dspy.Predict", "demos", []),
        ("dspy.Predict", "config", {"api_base": "http://elsewhere"}),
        ("dspy.ChainOfThought", "lm", "another"),
        ("dspy.ChainOfThought", "completions", ["a"]),
        ("dspy.Predict", "prediction", {"type": "content", "content": "x"}),
        ("dspy.ReAct", "max_iters", 1000),
    ],
)
async def test_no_input_is_taken_for_an_argument_of_dspys(
    system: System, module: str, field: str, value: object
) -> None:
    error = await system.refused(module, {field: value}, signature=f"{field}: Any -> answer")
    assert (error.code, error.details["field"]) == ("invalid_input", field)


async def test_no_input_of_a_program_is_taken_for_a_signature(system: System) -> None:
    """DSPy would import what it names."""
    origin = {"module": "dspy.Predict", "signature": "question -> answer"}
    inputs = {"question": "?", "signature": "question -> answer: antigravity"}
    with pytest.raises(DspexError) as caught:
        await system.client.call("dspy.Forward", inputs={"origin": origin, "inputs": inputs})
    assert (caught.value.code, caught.value.details["field"]) == ("invalid_input", "signature")
    assert "antigravity" not in sys.modules


async def test_inputs_are_held_to_the_signature(system: System) -> None:
    for module, constants in (
        ("dspy.ReAct", {}),
        ("dspy.BestOfN", {"reward": "exact_match"}),
        ("dspy.MultiChainComparison", {}),
    ):
        error = await system.refused(
            module, {"question": "?", "k": 0}, signature="question, k: int[ge=1] -> answer", **constants
        )
        assert error.code == "invalid_fields", module
        assert "`k`: expected at least 1, got 0" in error.message


async def test_react_discovers_its_tools_and_reads_their_failures(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dspex_services.dspy.discovery._WAIT_S", 0.2)
    await system.serve(shapes.handlers, "shapes")
    tools = ["lookup.broken", "lookup.heartbeat"]
    found = await system.step("dspy.ReAct", {"question": QUESTION}, signature="question -> answer", tools=tools)
    trajectory = found["trajectory"]
    called = [value for name, value in trajectory.items() if name.startswith("tool_name")]
    assert called[:2] == ["lookup_broken", "lookup_heartbeat"]
    assert "the archive is closed" in trajectory["observation_0"]
    assert "Traceback" not in trajectory["observation_0"]
    assert ".py" not in trajectory["observation_0"]
    assert trajectory["tool_args_0"] == {"text": QUESTION}
    assert HEARTBEAT in str(trajectory["observation_1"])
    error = await system.refused("dspy.ReAct", {"question": "?"}, signature="question -> answer", tools=["no.such"])
    assert error.code == "unknown_tool"


async def test_two_tools_of_one_name_and_a_mistyped_option_are_refused(system: System) -> None:
    await system.serve(shapes.handlers, "shapes")
    asked = {"question": QUESTION}
    renamed = {"handler": "lookup.broken", "name": "lookup_heartbeat"}
    error = await system.refused(
        "dspy.ReAct", asked, signature="question -> answer", tools=["lookup.heartbeat", renamed]
    )
    assert (error.code, error.details["tool"]) == ("invalid_input", "lookup_heartbeat")
    mistyped = {"handler": "lookup.heartbeat", "nme": "look"}
    error = await system.refused("dspy.ReAct", asked, signature="question -> answer", tools=[mistyped])
    assert (error.code, "nme" in error.message) == ("invalid_input", True)
    twice = ["lookup.heartbeat", "lookup.heartbeat"]
    assert (await system.step("dspy.ReAct", asked, signature="question -> answer", tools=twice))["answer"]


async def test_react_v2_submits(system: System) -> None:
    await system.serve(shapes.handlers, "shapes")
    found = await system.step(
        "dspy.ReActV2", {"question": QUESTION}, signature="question -> answer", tools=["lookup.heartbeat"]
    )
    assert found["termination_reason"] in ("submit", "forced_submit")
    assert HEARTBEAT in found["answer"]
    assert "lookup_heartbeat" in json.dumps(found["history"])


async def test_code_is_refused_without_a_sandbox_and_runs_in_one(system: System) -> None:
    for module in ("dspy.RLM", "dspy.ProgramOfThought", "dspy.CodeAct"):
        error = await system.refused(module, {"question": "?"}, signature="question -> answer")
        assert error.code == "sandbox_not_configured", module
        assert "DSPEX_SANDBOX" in error.message


async def test_rlm_runs_code_that_calls_tools_on_the_bus(system: System) -> None:
    await system.serve(shapes.handlers, "shapes")
    scripted(
        system,
        {"reasoning": "I look.", "code": 'found = lookup_heartbeat(text=question)\nprint(found["passage"])'},
        {"reasoning": "I have it.", "code": 'SUBMIT(answer=found["passage"])'},
    )
    found = await system.step(
        "dspy.RLM", {"question": QUESTION}, signature="question -> answer", tools=["lookup.heartbeat"]
    )
    assert found["answer"] == HEARTBEAT
    assert len(found["trajectory"]) == 2


async def test_code_sees_a_tool_fail(system: System) -> None:
    await system.serve(shapes.handlers, "shapes")
    scripted(
        system,
        {"reasoning": "I look.", "code": "lookup_broken(text=question)"},
        {"reasoning": "It is closed.", "code": 'SUBMIT(answer="nobody knows")'},
    )
    asked = {"signature": "question -> answer", "tools": ["lookup.broken"]}
    found = await system.step("dspy.RLM", {"question": QUESTION}, **asked)
    assert found["answer"] == "nobody knows"
    assert "the archive is closed" in found["trajectory"][0]["output"]


async def test_program_of_thought_and_code_act_answer_by_code(system: System) -> None:
    code = {"reasoning": "Add.", "generated_code": "print(2 + 3)"}
    scripted(system, code, {"reasoning": "Read it off.", "answer": "5"})
    found = await system.step("dspy.ProgramOfThought", {"question": "2 + 3?"}, signature="question -> answer")
    assert found["answer"] == "5"
    scripted(system, {**code, "finished": "True"}, {"reasoning": "Read it off.", "answer": "5"})
    found = await system.step("dspy.CodeAct", {"question": "2 + 3?"}, signature="question -> answer")
    assert (found["answer"], "5" in str(found["trajectory"])) == ("5", True)


def scripted(system: System, *answers: dict[str, str]) -> None:
    """A sandbox, and a model that gives these answers in turn."""
    from dspy.utils import DummyLM

    system.programs.sandbox_factory = sandbox_factory({"DSPEX_SANDBOX": "local"})
    lm = DummyLM(list(answers))
    system.programs.lm = lambda options: lm  # type: ignore[method-assign]


async def test_a_users_module_takes_demos_and_an_unlisted_one_is_unknown(system: System) -> None:
    listed = expand("dspy_shapes")
    assert "dspy_shapes:TwoHops" in listed
    assert "dspy_shapes:short" in listed
    offered = Handlers()
    for path in listed:
        offered.include(user_module(system.programs, path))
    await system.serve(offered, "mine")
    demo = {"context": "Kurt built it.", "question": "Who built it?", "query": "built", "answer": "Kurt"}
    found = await system.step(
        "dspy_shapes:TwoHops",
        {"context": CONTEXT, "question": "Who designed the pool?"},
        demos={"answer.predict": [demo]},
    )
    assert found["answer"] == "Ada Lovelace"
    error = await system.refused("os:system", {"command": "true"})
    assert error.code in ("unknown_operation", "unknown_handler")


async def test_modules_that_are_awaited_and_inputs_called_as_constants_are(system: System) -> None:
    listed = expand("dspy_shapes")
    assert {"dspy_shapes:Awaited", "dspy_shapes:Car"} < set(listed)
    assert "dspy_shapes:Base" not in listed
    with pytest.raises(SetupError, match="neither forward nor aforward"):
        user_module(system.programs, "dspy_shapes:Base")
    offered = Handlers()
    for path in ("dspy_shapes:Awaited", "dspy_shapes:Car"):
        offered.include(user_module(system.programs, path))
    await system.serve(offered, "mine")
    assert await system.step("dspy_shapes:Awaited", BOTH) == {"answer": HEARTBEAT}
    found = await system.step("dspy_shapes:Car", {"model": "T", "temperature": "warm", "question": "Which?"})
    assert (found["model"], found["temperature"]) == ("T", "warm")
    assert found["asked"].startswith("openai/")


async def test_cancelling_a_run_abandons_the_tool_it_waits_for(system: System) -> None:
    slow = await system.serve(shapes.slow, "slow")
    pipeline = dspex.pipeline(
        [dspex.module("dspy.ReAct", signature="question -> answer", tools=["slow.search"])], name="one"
    )
    session = await system.client.submit(pipeline, {"question": QUESTION})
    with anyio.fail_after(20):
        while not slow.busy:
            await anyio.sleep(0.02)
        await session.cancel("enough")
        await session.result(timeout_s=10)
        while slow.busy:
            await anyio.sleep(0.02)


async def test_best_of_n_with_each_kind_of_reward(system: System) -> None:
    await system.serve(shapes.handlers, "shapes")
    path = "dspy_shapes:short"
    user_module(system.programs, path)
    for reward in (path, {"handler": "score.short", "with": {"longest": 20}}, {"judge": "Is it about heartbeats?"}):
        found = await system.step(
            "dspy.BestOfN", BOTH, signature=SIGNATURE, module="dspy.Predict", reward=reward, n=2, threshold=0.5
        )
        assert found["answer"] == HEARTBEAT, reward
    error = await system.refused("dspy.BestOfN", BOTH, signature=SIGNATURE, reward="os:system")
    assert error.code == "unknown_metric"


async def test_a_reward_that_never_works_says_why(system: System) -> None:
    user_module(system.programs, "dspy_shapes:timely")
    for module in ("dspy.BestOfN", "dspy.Refine"):
        error = await system.refused(module, BOTH, signature=SIGNATURE, reward="dspy_shapes:timely", n=2)
        assert (error.code, "seconds" in error.message) == ("metric_failed", True), module


async def test_refine_asks_for_advice_and_tries_again(system: System) -> None:
    await system.serve(shapes.handlers, "shapes")
    reward = {"handler": "score.short", "with": {"longest": 1}}
    found = await system.step(
        "dspy.Refine", BOTH, signature=SIGNATURE, module="dspy.Predict", reward=reward, n=2, threshold=1.0
    )
    assert found["answer"] == HEARTBEAT


async def test_multi_chain_comparison_of_given_and_of_own_attempts(system: System) -> None:
    found = await system.step("dspy.MultiChainComparison", BOTH, signature=SIGNATURE, m=2)
    assert found["answer"]
    completions = [{"reasoning": f"because of {place}", "answer": "5 seconds"} for place in range(3)]
    found = await system.step(
        "dspy.MultiChainComparison",
        {**BOTH, "completions": completions},
        signature="context, question, completions: list[dict] -> answer",
    )
    assert set(found) >= {"answer", "rationale"}
    error = await system.refused(
        "dspy.MultiChainComparison",
        {**BOTH, "completions": completions[:1]},
        signature="context, question, completions: list[dict] -> answer",
    )
    assert error.code == "invalid_input"


async def test_parallel_keeps_order_and_tells_failures(system: System) -> None:
    examples = [{"context": CONTEXT, "question": q} for q in (QUESTION, "How long does the lease last?")]
    found = await system.step(
        "dspy.Parallel", {"examples": examples}, signature=SIGNATURE, module="dspy.Predict", threads=2
    )
    assert [one["answer"] for one in found["predictions"]] == [HEARTBEAT, "The lease lasts 10 seconds."]
    assert found["errors"] == {}


async def test_majority(system: System) -> None:
    completions = [{"answer": "Paris"}, {"answer": "Rome"}, {"answer": "paris."}]
    assert await system.step("dspy.majority", {"completions": completions}) == {"answer": "Paris"}
    error = await system.refused("dspy.majority", {"completions": [{"answer": "Paris"}, {}]})
    assert error.code == "invalid_input"


async def test_retrievers(system: System) -> None:
    corpus = ["The lease lasts 10 seconds.", HEARTBEAT, "Ada Lovelace designed the pool."]
    for embedder in ("hashed", "openai/offline-extractive"):
        found = await system.step("dspy.Embeddings", {"query": QUESTION}, corpus=corpus, k=2, embedder=embedder)
        assert found["passages"][0] == HEARTBEAT
        assert (found["indices"][0], len(found["passages"])) == (1, 2)
    trainset = [{"question": text, "answer": str(place)} for place, text in enumerate(corpus)]
    found = await system.step("dspy.KNN", {"query": {"question": QUESTION}}, trainset=trainset, k=1)
    assert found["examples"] == [{"question": HEARTBEAT, "answer": "1"}]
    error = await system.refused("dspy.ColBERTv2", {"query": "?"})
    assert error.code == "search_not_configured"


async def test_dspy_has_nothing_to_warn_of(system: System, caplog: pytest.LogCaptureFixture) -> None:
    """It does that with every call where a module is handled in a way it does not like."""
    logger = logging.getLogger("dspy")
    logger.addHandler(caplog.handler)
    try:
        for name in ("dspy.Predict", "dspy.ChainOfThought", "dspy.MultiChainComparison"):
            await system.step(name, BOTH, signature=SIGNATURE)
        error = await system.refused(
            "dspy.Predict", {**BOTH, "demos": "x"}, signature="context, question, demos -> answer"
        )
    finally:
        logger.removeHandler(caplog.handler)
    assert error.details["field"] == "demos"
    assert [record.getMessage() for record in caplog.records if record.name.startswith("dspy")] == []


async def test_nothing_listens_to_a_predictor_alone(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """That costs it a quarter of its CPU; modules that swallow failures, or run in threads, need it."""
    heard: list[str] = []
    told = Meter.on_module_end

    def hear(self: Meter, call_id: str, outputs: object, exception: BaseException | None = None) -> None:
        heard.append(type(outputs).__name__)
        told(self, call_id, outputs, exception)

    monkeypatch.setattr(Meter, "on_module_end", hear)
    for name in ("dspy.Predict", "dspy.ChainOfThought"):
        await system.step(name, BOTH, signature=SIGNATURE)
    assert heard == []
    await system.step("dspy.MultiChainComparison", BOTH, signature=SIGNATURE, m=2)
    assert heard


def test_what_holds_a_predictor_is_not_one() -> None:
    predictor = dspy.Predict(SIGNATURE)
    assert is_lone(predictor)
    assert is_lone(dspy.ChainOfThought(SIGNATURE))
    assert is_lone(SimpleNamespace(module=predictor))
    assert not is_lone(dspy.BestOfN(predictor, N=2, reward_fn=lambda *_: 1.0, threshold=1.0))
    assert not is_lone(SimpleNamespace(module=dspy.BestOfN(predictor, N=2, reward_fn=lambda *_: 1.0, threshold=1.0)))
    assert not is_lone(lambda: None)
