"""A thousand requests to one DSPy worker at once, each with a model, an adapter, demos and callbacks of its own."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from scripted_server import Answer, Seen, playing

from dspex_bus.wire import StepSucceeded
from dspex_services.supervisor import DSPY

from ..rig import Rig
from .supervised import WORK, spec, supervised

pytest.importorskip("dspy")
pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(180)]

REQUESTS = 1000
IN_FLIGHT = 64
ADAPTERS = {"chat": "ChatAdapter", "json": "JSONAdapter", "xml": "XMLAdapter"}


@dataclass(frozen=True)
class Request:
    number: int

    @property
    def model(self) -> str:
        return f"model-{self.number % 7}"

    @property
    def adapter(self) -> str:
        return list(ADAPTERS)[self.number % len(ADAPTERS)]

    @property
    def temperature(self) -> float:
        return 0.1 + self.number % 9 / 10

    @property
    def demos(self) -> list[dict[str, str]]:
        return [
            {"question": f"demo-{self.number}-{demo}?", "answer": f"shown-{self.number}"}
            for demo in range(self.number % 4)
        ]

    @property
    def options(self) -> dict[str, Any]:
        return {
            "model": f"openai/{self.model}",
            "adapter": self.adapter,
            "temperature": self.temperature,
            "demos": self.demos,
        }


def answered(number: int, seen: Seen) -> Answer:
    """In the format that is asked for: what the prompt was made of."""
    prompt = json.dumps(seen.body["messages"], ensure_ascii=False)
    (asked,) = set(re.findall(r"ask-(\d+)\?", prompt))
    marks = {
        "asked": int(asked),
        "model": seen.body["model"],
        "temperature": seen.body["temperature"],
        "demos": sorted(set(re.findall(r"demo-\d+-\d+", prompt))),
        "shown": sorted(set(re.findall(r"shown-\d+", prompt))),
    }
    told = json.dumps(marks).replace('"', "'")
    if "[[ ## answer ## ]]" in prompt:
        text = f"[[ ## answer ## ]]\n{told}\n\n[[ ## completed ## ]]"
    elif "<answer>" in prompt:
        text = f"<answer>{told}</answer>"
    else:
        text = json.dumps({"answer": told})
    body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "model": seen.body["model"]}
    return Answer([random.uniform(0, 0.02), json.dumps(body).encode()])


async def test_nothing_of_one_request_is_seen_by_another(rig: Rig) -> None:
    gate = anyio.Semaphore(IN_FLIGHT)
    outcomes: dict[int, Any] = {}

    async def ask(request: Request) -> None:
        inputs, own = {"question": f"ask-{request.number}?"}, request.number % 2
        async with gate:
            if own:
                outcome = await rig.run("listening.Listens", {**inputs, **request.options}, timeout_ms=60_000)
            else:
                options = {**request.options, "signature": "question -> answer"}
                outcome = await rig.run("dspy.Predict", inputs, options=options, timeout_ms=60_000)
            outcomes[request.number] = outcome

    async with playing(answered) as model:
        pool = spec(
            rig,
            handlers=(DSPY,),
            modules=("listening:Listens",),
            path=(str(WORK),),
            slots=IN_FLIGHT,
            environment={"DSPEX_MODEL": "openai/model-0", "DSPEX_BASE_URL": model.url},
        )
        async with supervised(rig, pool), anyio.create_task_group() as group:
            for number in range(REQUESTS):
                group.start_soon(ask, Request(number))
        assert model.most > 8  # they were interleaved
    for number, outcome in outcomes.items():
        assert isinstance(outcome, StepSucceeded), outcome
        check(Request(number), outcome.outputs)
    assert len(outcomes) == REQUESTS


def check(request: Request, outputs: dict[str, Any]) -> None:
    demos = [demo["question"] for demo in request.demos]
    assert json.loads(outputs["answer"].replace("'", '"')) == {
        "asked": request.number,
        "model": request.model,
        "temperature": pytest.approx(request.temperature),
        "demos": [demo.rstrip("?") for demo in demos],
        "shown": [f"shown-{request.number}"] if demos else [],
    }
    if request.number % 2:
        assert outputs == {
            "answer": outputs["answer"],
            "models": [f"openai/{request.model}"],
            "questions": [f"ask-{request.number}?"],
            "asked_before": [],
            "heard_by_others": 0,
            "trace_before": 0,
            "adapter": ADAPTERS[request.adapter],
            "demos": demos,
        }
