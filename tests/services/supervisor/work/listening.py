"""A module that would notice what another request has left behind."""

from __future__ import annotations

from typing import Any

import dspy
from dspy.utils.callback import BaseCallback


class Heard(BaseCallback):  # type: ignore[misc]
    """Which models were asked what, as the callbacks of one request hear it."""

    def __init__(self) -> None:
        self.models: list[str] = []
        self.questions: list[str] = []

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self.models.append(instance.model)

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self.questions.append(inputs["kwargs"]["question"])


class Listens(dspy.Module):  # type: ignore[misc]
    """Ask, and tell what was heard meanwhile and found beforehand."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")
        self.asked: list[str] = []

    def forward(self, question: str) -> Any:
        before = list(dspy.settings.callbacks or [])
        found = {
            "asked_before": list(self.asked),
            "heard_by_others": sum(isinstance(callback, Heard) for callback in before),
            "trace_before": len(dspy.settings.trace or []),
            "adapter": type(dspy.settings.adapter).__name__,
            "demos": [demo["question"] for demo in self.ask.demos],
        }
        self.asked.append(question)
        heard = Heard()
        with dspy.context(callbacks=[*before, heard]):
            answer = self.ask(question=question).answer
        return dspy.Prediction(answer=answer, models=heard.models, questions=heard.questions, **found)
