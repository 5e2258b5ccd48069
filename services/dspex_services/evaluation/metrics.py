"""What a metric may be, and calling it: built in, a function the operator lists, a handler on the bus, a model that
judges, or a function that a client serves while its job lives.

    metric: exact_match                                built in: exact_match, contains, f1
    metric: {name: f1, field: answer}                  of one field alone
    metric: semantic_f1                                DSPy's own, which ask the model; also complete_and_grounded
    metric: mypackage.scoring:close_enough             a function (example, prediction, trace=None)
    metric: {handler: scoring.score, with: {…}}        a handler that reads example and prediction and writes score
    metric: {judge: "Is the answer polite?"}           a model's verdict from 0 to 1
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from dspex_bus.errors import InvalidRequest

from ..errors import StepError
from .builtin import COMPARISONS, compare_fields

ASKING = ("semantic_f1", "complete_and_grounded")
"""DSPy's metrics that ask the model themselves."""


_FUNCTIONS_OF_DSPY = ("dspy.evaluate.metrics:answer_exact_match", "dspy.evaluate.metrics:answer_passage_match")
"""Its plain functions, which need no listing."""


class MetricSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Exactly one of ``name``, ``handler``, ``judge`` and ``served`` says what scores. ``field`` narrows a built-in
    comparison; ``with`` is the handler's constants; ``served`` is where a client answers; ``threshold`` is what counts
    as good where an optimizer only wants yes or no."""

    name: str | None = None
    handler: str | None = None
    judge: str | None = None
    served: str | None = None
    field: str | None = None
    with_: dict[str, Any] = msgspec.field(name="with", default_factory=dict)
    threshold: float | None = None

    @property
    def label(self) -> str:
        return self.name or self.handler or ("judge" if self.judge else "served")


@dataclass(frozen=True, slots=True)
class Score:
    """``feedback`` is what reflective optimizers read."""

    value: float
    feedback: str = ""


class Ask(Protocol):
    """How a metric reaches what is not here: called from a thread, it waits for the answer."""

    def handler(self, name: str, constants: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]: ...

    def judge(self, criteria: str, example: dict[str, Any], prediction: dict[str, Any]) -> dict[str, Any]: ...

    def served(self, subject: str, payload: dict[str, Any]) -> dict[str, Any]: ...


Scorer = Callable[..., Score]
"""(example, prediction, trace, predictor's name, predictor's trace): the last three as DSPy's optimizers give them."""


def metric_spec(wanted: str | Mapping[str, Any]) -> MetricSpec:
    """The metric a user wrote. Raises StepError (``invalid_metric``) saying what is wrong with it."""
    try:
        spec = MetricSpec(name=wanted) if isinstance(wanted, str) else msgspec.convert(dict(wanted), MetricSpec)
    except msgspec.ValidationError as error:
        raise StepError(f"the metric cannot be used: {error}", code="invalid_metric") from error
    given = [kind for kind in ("name", "handler", "judge", "served") if getattr(spec, kind)]
    if len(given) != 1:
        raise StepError(
            f"a metric is exactly one of name, handler, judge and served, not {' and '.join(given) or 'none'}",
            code="invalid_metric",
        )
    if spec.name is not None and ":" not in spec.name and spec.name not in (*COMPARISONS, *ASKING):
        near = difflib.get_close_matches(spec.name, (*COMPARISONS, *ASKING), 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise StepError(
            f"there is no metric {spec.name!r}; {hint}there are: {', '.join((*COMPARISONS, *ASKING))}, and "
            "package.module:function, {handler: …} and {judge: …}",
            code="unknown_metric",
        )
    return spec


def check_labels(spec: MetricSpec, fields: Sequence[str], asked: Sequence[str]) -> None:
    """Whether a comparison finds right answers among the examples' ``fields``. Raises InvalidRequest."""
    if spec.name not in COMPARISONS:
        return
    labels = [name for name in fields if name not in asked and not name.startswith("dspy_")]
    if not labels:
        raise InvalidRequest(
            f"the examples hold nothing but what is asked ({', '.join(asked)}): {spec.name} needs right answers",
            code="missing_field",
        )
    if spec.field is not None and spec.field not in labels:
        raise InvalidRequest(
            f"the metric compares the field {spec.field!r}, which no example has for an answer; there are: "
            f"{', '.join(labels)}",
            code="missing_field",
            details={"field": spec.field},
        )


def scorer(spec: MetricSpec, ask: Ask, imported: Mapping[str, Callable[..., Any]]) -> Scorer:
    """What scores by ``spec``; ``imported`` are the functions the operator lists. Raises StepError."""
    if spec.handler is not None:
        return _handled(spec.handler, spec.with_, ask)
    if spec.judge is not None:
        return _judged(spec.judge, ask)
    if spec.served is not None:
        return _served(spec.served, ask)
    assert spec.name is not None
    if spec.name in COMPARISONS:
        return _compared(spec.name, spec.field)
    if spec.name in ASKING:
        return _called(_dspy_metric(spec.name, spec.with_))
    if spec.name in _FUNCTIONS_OF_DSPY:
        return _called(_function(spec.name))
    if spec.name in imported:
        return _called(imported[spec.name])
    known = ", ".join((*COMPARISONS, *ASKING, *sorted(imported)))
    raise StepError(
        f"there is no metric {spec.name!r}; there are: {known}. A function of your own must be listed by the pool: "
        "dspex pool optimize --module package.module:function",
        code="unknown_metric",
    )


def compared(
    wanted: str | Mapping[str, Any], example: Mapping[str, Any], prediction: Mapping[str, Any], inputs: Sequence[str]
) -> tuple[float, str]:
    """Score and feedback of plain data by a built-in comparison, without DSPy. Raises StepError."""
    spec = metric_spec(wanted)
    if spec.name not in COMPARISONS:
        raise StepError(
            f"the metric {spec.label!r} is none of {', '.join(COMPARISONS)}: others are scored by dspy.Metric",
            code="unknown_metric",
        )
    known = {name: value for name, value in example.items() if name not in inputs}
    return compare_fields(COMPARISONS[spec.name], known, prediction, spec.field)


def labels(example: Any) -> dict[str, Any]:
    """What an example holds besides its inputs."""
    return dict(example.labels().toDict()) if getattr(example, "_input_keys", None) is not None else dict(example)


def _compared(name: str, field: str | None) -> Scorer:
    compare = COMPARISONS[name]

    def score(example: Any, prediction: Any, *_: Any) -> Score:
        value, feedback = compare_fields(compare, labels(example), _fields(prediction), field)
        return Score(value, feedback)

    return score


def _handled(name: str, constants: dict[str, Any], ask: Ask) -> Scorer:
    def score(example: Any, prediction: Any, *_: Any) -> Score:
        inputs = {"example": _fields(example), "prediction": _fields(prediction)}
        return as_score(ask.handler(name, constants, inputs), name)

    return score


def _judged(criteria: str, ask: Ask) -> Scorer:
    def score(example: Any, prediction: Any, *_: Any) -> Score:
        return as_score(ask.judge(criteria, _fields(example), _fields(prediction)), "the judge")

    return score


def _served(subject: str, ask: Ask) -> Scorer:
    def score(example: Any, prediction: Any, trace: Any = None, predictor: str | None = None, *_: Any) -> Score:
        payload = {
            "example": _fields(example),
            "inputs": list(getattr(example, "_input_keys", None) or ()),
            "prediction": _fields(prediction),
            "tracing": trace is not None,
            "predictor": predictor,
        }
        return as_score(ask.served(subject, payload), "the served metric")

    return score


def _called(function: Callable[..., Any]) -> Scorer:
    places = room(function)

    def score(*arguments: Any) -> Score:
        return as_score(function(*arguments[:places]), getattr(function, "__name__", str(function)))

    return score


def room(function: Callable[..., Any]) -> int:
    """How many of a metric's five arguments the function is given: all, where it has a place for each; else not those
    that only reflective optimizers know, for a fourth parameter would be something else."""
    called = getattr(function, "forward", function)  # of a metric that is a module
    parameters = inspect.signature(called).parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return 5
    places = sum(
        parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD) for parameter in parameters
    )
    return 5 if places >= 5 else min(3, places)


def as_score(returned: Any, who: str) -> Score:
    """A number, a truth value, or something with ``score`` and, if it likes, ``feedback``. Raises StepError."""
    value, feedback = returned, ""
    if isinstance(returned, Mapping):
        value, feedback = returned.get("score"), str(returned.get("feedback") or "")
    elif hasattr(returned, "score"):
        value, feedback = returned.score, str(getattr(returned, "feedback", "") or "")
    if not isinstance(value, bool | int | float) and hasattr(value, "item"):
        value = value.item()  # NumPy's
    if isinstance(value, bool | int | float):
        return Score(float(value), feedback)
    raise StepError(f"{who} returned {type(returned).__name__}; a metric returns a number", code="invalid_metric")


def _fields(value: Any) -> dict[str, Any]:
    from ..dspy.values import plain

    return plain(value)


def _function(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def _dspy_metric(name: str, options: dict[str, Any]) -> Callable[..., Any]:
    from dspy.evaluate import CompleteAndGrounded, SemanticF1

    module = {"semantic_f1": SemanticF1, "complete_and_grounded": CompleteAndGrounded}[name](**options)
    return lambda example, prediction, trace=None: module(example, prediction, trace)
