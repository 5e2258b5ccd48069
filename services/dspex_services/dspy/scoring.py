"""Scores by what asks a model or is a function of the operator's: the step ``dspy.Metric``."""

from __future__ import annotations

from typing import Any

import dspy

from ..evaluation.metrics import Scorer, metric_spec, scorer
from ..evaluation.scored import Score, Scored, scored
from ..handlers import Handlers, Step
from .asking import BusAsk
from .options import MetricOptions
from .programs import Programs


def scoring(programs: Programs) -> Handlers:
    handlers = Handlers()

    @handlers.handler("dspy.Metric", implementation="dspy")
    async def score(options: MetricOptions, step: Step) -> dict[str, Any]:
        """A prediction's ``score`` by any metric, with ``feedback``."""
        metric = scorer(metric_spec(options.metric), BusAsk(step), programs.functions)
        module = _Scoring(metric, tuple(options.example_inputs))
        return await programs.run(module, {"example": options.example, "prediction": options.prediction}, options, step)

    @handlers.handler("dspy.Score", implementation="dspy", pure=True)
    async def compare(request: Scored) -> Score:
        """The handler ``score`` for what this pool has just predicted: it travels with it."""
        return scored(request)

    return handlers


class _Scoring:
    """A metric as a module, so that what it asks the model is limited, counted and kept like any call."""

    def __init__(self, metric: Scorer, inputs: tuple[str, ...]) -> None:
        self._metric = metric
        self._inputs = inputs

    def __call__(self, example: dict[str, Any], prediction: dict[str, Any]) -> dict[str, Any]:
        asked = dspy.Example(**example).with_inputs(*self._inputs)
        score = self._metric(asked, dspy.Prediction(**prediction), None, None, None)
        return {"score": score.value, "feedback": score.feedback}
