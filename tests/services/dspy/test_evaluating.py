"""Evaluations over the bus: rows, scores, failures, every kind of metric, stored programs, data sets from sessions."""

from __future__ import annotations

import json
from typing import Any

import dspy
import dspy_shapes as shapes
import numpy
import pytest
from dspy_system import System

import dspex
from dspex.evaluating import Evaluation, Row
from dspex.harvesting import Harvest, harvest
from dspex_bus import subjects
from dspex_bus.errors import DspexError
from dspex_bus.streams import OBJECTS
from dspex_services.dspy.assembling import Ensemble
from dspex_services.native.pool import native_handlers
from dspex_services.programs import Origin

pytestmark = pytest.mark.anyio

SIGNATURE = "context, question -> answer"
CONTEXT = "Ada designed the pool. Kurt wrote the lease. Nora named the worker."
ROWS = [
    {"context": CONTEXT, "question": "Who designed the pool?", "answer": "Ada designed the pool."},
    {"context": CONTEXT, "question": "Who wrote the lease?", "answer": "Kurt wrote the lease."},
    {"context": CONTEXT, "question": "Who named the worker?", "answer": "Ada"},
]
PREDICT = dspex.module("dspy.Predict", signature=SIGNATURE)


@pytest.fixture
def modules() -> list[str]:
    return ["dspy_shapes:short"]


@pytest.fixture
async def whole(system: System) -> System:
    await system.serve(native_handlers(), "native")
    return system


async def test_a_step_is_scored_example_by_example(whole: System) -> None:
    seen: list[tuple[int, Row]] = []

    def on_row(report: Evaluation, row: Row) -> None:
        seen.append((report.done, row))

    found = await whole.client.evaluate(PREDICT, ROWS, on_row=on_row)
    assert found.scores == [1.0, 1.0, 0.0]
    assert found.summary.score == 66.67
    assert found.rows[2].prediction == {"answer": "Nora named the worker."}
    assert "should be 'Ada'" in found.rows[2].feedback
    assert (found.usage.calls, found.failed, found.done) == (3, 0, 3)
    assert seen[-1][0] == 3
    async for event in whole.client.session(found.session).events():
        if event.node.startswith("0-"):  # one task an example: its score came with its prediction
            assert event.pool == "dspy"
    result = await whole.client.session(found.session).result()
    assert result.output is not None
    assert (result.output["score"], result.output["examples"]) == (66.67, 3)


async def test_a_failing_example_counts_nothing_and_says_why(whole: System) -> None:
    step = dspex.module("dspy.Predict", signature="question -> answer: int", retry=dspex.RetryPolicy(attempts=1))
    rows = [{"question": "2 + 3?", "answer": 5}, {"question": [], "answer": 1, "context": None}]
    wrong = dspex.native("template", template="{{ question.nothing.at_all }}")
    found = await whole.client.evaluate(step, rows[:1])
    assert found.scores == [1.0]
    found = await whole.client.evaluate(wrong, rows, inputs=["question"])
    assert (found.scores, found.failed) == ([0.0, 0.0], 2)
    assert "template_failed" in found.rows[0].error
    assert found.summary.failed == 2


async def test_metrics_of_every_kind(whole: System) -> None:
    await whole.serve(shapes.handlers, "shapes")
    metrics = {
        "f1": {"name": "f1", "field": "answer"},
        "path": "dspy_shapes:short",
        "handler": {"handler": "score.short", "with": {"longest": 4}},
        "judge": {"judge": "Does the answer name a person?"},
        "lambda": lambda example, prediction: prediction.answer.startswith(example.answer[:3]),
    }
    found = {kind: await whole.client.evaluate(PREDICT, ROWS[:1], metric=metric) for kind, metric in metrics.items()}
    assert [found[kind].scores for kind in ("f1", "path", "handler", "lambda")] == [[1.0], [0.0], [1.0], [1.0]]
    assert found["handler"].rows[0].feedback == "be brief"
    assert found["judge"].usage.calls + found["judge"].usage.saved_calls == 2
    assert found["judge"].rows[0].error == ""
    unknown = await whole.client.evaluate(PREDICT, ROWS[:1], metric="os:system")
    assert "unknown_metric" in unknown.rows[0].error


async def test_a_function_served_from_here_gets_and_says_more_than_a_message_holds(whole: System) -> None:
    page = "x" * 1_500_000
    rows = [{"question": "2 + 3?", "answer": "5", "page": page}]
    told: list[int] = []

    def metric(example: Any, prediction: Any) -> dict[str, object]:
        told.append(len(example.page))
        return {"score": 0.5, "feedback": page}

    step = dspex.module("dspy.Predict", signature="question -> answer")
    found = await whole.client.evaluate(step, rows, metric=metric)
    assert (found.scores, told) == ([0.5], [len(page)])
    assert found.rows[0].feedback == page
    names = [info.name for info in await whole.client.bus.objects(OBJECTS).contents()]
    assert [name for name in names if subjects.split_object(name) == ""] == []


async def test_two_stored_programs_are_compared(whole: System) -> None:
    import dspy

    client = whole.client
    context = "Ada Lovelace designed the pool. Kurt Goedel wrote the lease."
    rows = [
        {"context": context, "question": "Who designed the pool?", "answer": "Ada Lovelace"},
        {"context": context, "question": "Who wrote the lease?", "answer": "Kurt Goedel"},
        {"context": context, "question": "Who wrote nothing?", "answer": "nobody"},
    ]
    demo = dspy.Example(context="Emmy built it.", question="Who built it?", answer="Emmy")
    for demos in ([], [demo]):
        module = dspy.Predict(SIGNATURE)
        module.demos = demos
        await client.programs.put("qa", module.dump_state(), Origin(module="dspy.Predict", signature=SIGNATURE))
    first, second = [await client.evaluate(f"qa@{number}", rows, parallel=1) for number in (1, 2)]
    assert (first.target, second.target) == ("qa@1", "qa@2")
    assert (first.scores, second.scores) == ([0.0, 0.0, 0.0], [1.0, 1.0, 0.0])
    found = first.against(second)
    assert (found.better, found.worse, found.same, found.difference) == (2, 0, 1, 66.67)
    with pytest.raises(DspexError) as refused:
        first.against(await client.evaluate("qa", rows[:1]))
    assert refused.value.code == "invalid_dataset"


async def test_examples_of_dspy_say_what_is_asked(whole: System) -> None:
    examples = [dspy.Example(**row).with_inputs("question", "context") for row in ROWS]
    pipeline = dspex.pipeline([dspex.module("dspy.Predict", signature=SIGNATURE)], name="asking")
    report = await whole.client.evaluate(pipeline, examples)
    assert (report.summary.score, report.dataset.inputs) == (66.67, ("context", "question"))
    assert report.dataset.rows == tuple(ROWS)

    def reflective(gold: Any, pred: Any, trace: Any, pred_name: Any, pred_trace: Any) -> float:
        return 1.0

    for metric in (
        dspy.evaluate.answer_exact_match,
        reflective,
        lambda example, prediction: numpy.bool_(prediction["answer"]),
    ):
        report = await whole.client.evaluate(PREDICT, examples, metric=metric)
        assert report.failed == 0
        assert report.summary.score > 60
    with pytest.raises(DspexError, match="example 1 holds what is no data"):
        await whole.client.evaluate(PREDICT, [dspy.Example(question=object())])


async def test_programs_that_are_made_of_others(whole: System) -> None:
    member = {"module": "dspy.Predict", "signature": SIGNATURE}
    voting = Ensemble([dspy.Predict(SIGNATURE), dspy.Predict(SIGNATURE)], None)
    origin = Origin(module="dspy.Ensemble", options={"members": [member, member]})
    await whole.client.programs.put("vote", json.loads(json.dumps(voting.dump_state())), origin)
    report = await whole.client.evaluate("vote", ROWS)
    assert (report.summary.score, report.failed) == (66.67, 0)


async def test_what_cannot_be_asked_is_refused_before_anything_runs(whole: System) -> None:
    client = whole.client
    for target, rows, options, code in (
        (PREDICT, [{"question": "?"}], {}, "missing_field"),
        (dspex.native("template", template="x"), ROWS, {}, "missing_field"),
        ("nobody", ROWS, {}, "unknown_program"),
        (PREDICT, ROWS, {"metric": {"name": "f1", "judge": "x"}}, "invalid_metric"),
        (PREDICT, ROWS, {"metric": "exact_mach"}, "unknown_metric"),
        (PREDICT, ROWS, {"metric": {"name": "f1", "field": "reply"}}, "missing_field"),
        (PREDICT, [{"context": "c", "question": "q"}], {"metric": "f1"}, "missing_field"),
        (PREDICT, [], {}, "invalid_dataset"),
    ):
        with pytest.raises(DspexError) as refused:
            await client.evaluate(target, rows, **options)  # type: ignore[arg-type]
        assert refused.value.code == code
    assert not (await client.sessions()).sessions


async def test_sessions_become_examples(whole: System) -> None:
    client = whole.client
    review = dspex.wait("review", timeout_s=20, save_as="said")
    ask = dspex.pipeline([PREDICT, review], name="ask", output=["answer"])
    other = dspex.pipeline([dspex.native("template", template="hello")], name="other")
    for place, score in enumerate((0.2, 0.9)):
        asked = {name: ROWS[place][name] for name in ("context", "question")}
        session = await client.submit(ask, asked)
        await session.signal("review", {"score": score, "answer": f"right {place}"})
        assert (await session.result(timeout_s=20)).status == "succeeded"
    await client.run(other)
    await client.run(other)

    async def rows(**wanted: object) -> list[dict[str, object]]:
        return [row async for row in harvest(client, Harvest(**wanted))]  # type: ignore[arg-type]

    assert len(await rows()) == 3
    assert [row["answer"] for row in await rows(pipeline="ask")] == [ROWS[1]["answer"], ROWS[0]["answer"]]
    (good,) = await rows(feedback="review", min_score=0.5, inputs=("question",), outputs=("answer",))
    assert good == {"question": ROWS[1]["question"], "answer": "right 1"}
    assert await rows(statuses=("failed",)) == []
