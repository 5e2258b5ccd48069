"""What native predictors do not cover runs in DSPy, and the caller need not know."""

from __future__ import annotations

import pytest
from dspy_system import System

import dspex
from dspex_bus.errors import InvalidRequest
from dspex_services.native.models import Models
from dspex_services.native.pool import native_handlers

pytestmark = pytest.mark.anyio

PIXEL = "data:image/png;base64,iVBORw0KGgo="
SEEN = "image: dspy.Image, past: dspy.History, context, question -> answer"
INPUTS = {
    "image": PIXEL,
    "past": {"messages": [{"question": "Hello?", "answer": "Yes."}]},
    "context": "A worker sends a heartbeat every 5 seconds.",
    "question": "How often does a worker send a heartbeat?",
}


@pytest.fixture
async def both(system: System, model_environment: dict[str, str]) -> System:
    await system.serve(native_handlers(Models(model_environment)), "native")
    return system


async def test_images_history_and_dspys_own_options_are_routed(both: System) -> None:
    client = both.client
    seen = await client.predict(SEEN, INPUTS)
    assert (seen.implementation, seen.handler) == ("dspy", "dspy.Predict")
    assert "5" in seen.answer
    words = {name: INPUTS[name] for name in ("context", "question")}
    plain = await client.predict("context, question -> answer", words)
    assert (plain.implementation, "5" in plain.answer) == ("native", True)
    adapted = await client.predict("context, question -> answer", words, config={"adapter": "xml"})
    assert (adapted.implementation, "5" in adapted.answer) == ("dspy", True)
    as_data = {"inputs": {"image": "dspy.Image", "question": "str"}, "outputs": {"answer": "str"}}
    pictured = {name: INPUTS[name] for name in ("image", "question")}
    data = await client.call("predict", inputs=pictured, constants={"signature": as_data})
    assert data.implementation == "dspy"
    with pytest.raises(InvalidRequest) as refused:
        await client.predict(SEEN, INPUTS, implementation="native")
    assert refused.value.code == "unsupported_natively"
    assert "dspy.Image" in refused.value.message


async def test_explaining_says_what_then_runs(both: System) -> None:
    client = both.client
    step = dspex.call("predict", signature=SEEN)
    pipeline = dspex.pipeline([dspex.call("predict", signature="question -> context"), step])
    explained = await client.explain(pipeline)
    assert explained.error is None
    assert [(one.implementation, one.pool) for one in explained.steps] == [("native", "native"), ("dspy", "dspy")]
    assert explained.steps[1].why == "only DSPy handles dspy.Image, dspy.History"
    result = await client.run(pipeline, INPUTS, timeout_s=30)
    view = await client.session(result.session).view()
    assert [one.implementation for one in view.steps] == ["native", "dspy"]

    stored = dspex.pipeline([dspex.subpipeline("inner"), dspex.native("nothing")], name="outer")
    await client.put_pipeline(dspex.pipeline([step], name="inner"))
    found = await client.explain(stored)
    assert [one.path for one in found.steps][:2] == ["steps[0]", "steps[0].pipeline(inner).steps[0]"]
    assert found.error is not None
    assert found.error.code == "unknown_handler"
