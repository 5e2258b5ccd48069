"""A program whose calls run elsewhere: like its own class in every way that optimizers look at, but for ``forward``.

What comes back has the trace put where DSPy's own predictors would have put it, so that bootstrapping, reflecting and
scoring see no difference."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import dspy
import pydantic
from dspy.utils.exceptions import AdapterParseError

from ...optimizing.job import ModuleSpec
from ..values import plain

Forward = Callable[[dict[str, Any]], dict[str, Any]]
"""A ``dspy.Forward`` request to its answer; blocks."""


def remote(module: Any, spec: ModuleSpec, forward: Forward, adapter: str) -> Any:
    """A copy of the module that asks ``forward``. Its copies do too."""
    own = type(module)
    kind = type(
        own.__name__,
        (own,),
        {
            # What reads a program's source must find that of the class it is made of.
            "__module__": own.__module__,
            "__qualname__": own.__qualname__,
            "__doc__": own.__doc__,
            "forward": _forward,
            "_dspex_spec": spec,
            "_dspex_adapter": adapter,
            "_dspex_forward": staticmethod(forward),
        },
    )
    made = module.deepcopy()
    made.__class__ = kind
    for predictor in made.predictors():
        # Copies share the class, and some optimizers write into it: this one is no other job's.
        predictor.signature = predictor.signature.with_instructions(predictor.signature.instructions)
    return made


def _forward(self: Any, **inputs: Any) -> Any:
    answer = self._dspex_forward(_request(self, inputs))
    named = dict(self.named_predictors())
    _remember(answer["trace"], named)
    if "unreadable" in answer:
        raise _unreadable(answer["unreadable"], named)
    return _prediction(answer["prediction"], answer["trace"], named)


def _request(program: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    spec = program._dspex_spec
    lm = dspy.settings.lm
    parameters = _parameters(lm)
    return {
        "origin": {
            "module": spec.module,
            "signature": spec.signature,
            "instructions": spec.instructions,
            "options": spec.options,
        },
        "state": state_of(program),
        "lms": {
            name: {"model": predictor.lm.model, **_parameters(predictor.lm)}
            for name, predictor in program.named_predictors()
            if predictor.lm is not None
        },
        "inputs": plain(dict(inputs)),
        "adapter": program._dspex_adapter,
        "model": lm.model,
        "temperature": parameters.pop("temperature", None),
        "max_tokens": parameters.pop("max_tokens", None),
        "lm": parameters,
    }


def _parameters(lm: Any) -> dict[str, Any]:
    """A model's parameters by the names that steps have for them. DSPy calls one differently for some models."""
    given = {name: value for name, value in lm.kwargs.items() if value is not None}
    if "max_completion_tokens" in given:
        given["max_tokens"] = given.pop("max_completion_tokens")
    return given


def state_of(program: Any) -> dict[str, Any]:
    """A program's state as DSPy would save it, without models: those are whoever's runs it."""
    if isinstance(program, dspy.Predict):
        return _dumped(program)
    return {name: _dumped(parameter) for name, parameter in program.named_parameters()}


def _dumped(parameter: Any) -> dict[str, Any]:
    if getattr(parameter, "lm", None) is not None:
        parameter = copy.copy(parameter)
        parameter.lm = None
    return plain(parameter.dump_state())


def _remember(steps: list[list[Any]], named: Mapping[str, Any]) -> None:
    trace = dspy.settings.trace
    if trace is None:
        return
    for name, inputs, outputs in steps:
        predictor = named[name]
        asked = _typed(inputs, predictor.signature.input_fields)
        trace.append((predictor, asked, dspy.Prediction(**_typed(outputs, predictor.signature.output_fields))))
    del trace[: max(0, len(trace) - dspy.settings.max_trace_size)]


def _prediction(values: dict[str, Any], steps: list[list[Any]], named: Mapping[str, Any]) -> Any:
    """With values of the types that the predictor which wrote them has for them."""
    typed = dict(values)
    for name, _, outputs in steps:
        fields = {
            field: info
            for field, info in named[name].signature.output_fields.items()
            if field in values and outputs.get(field) == values[field]
        }
        typed.update(_typed({field: values[field] for field in fields}, fields))
    return dspy.Prediction(**typed)


def _typed(values: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _of_type(value, fields[name].annotation) if name in fields else value for name, value in values.items()
    }


def _of_type(value: Any, annotation: Any) -> Any:
    if annotation is str or isinstance(value, annotation if isinstance(annotation, type) else ()):
        return value
    try:
        return pydantic.TypeAdapter(annotation).validate_python(value)
    except (pydantic.ValidationError, pydantic.errors.PydanticUserError):
        return value  # DSPy lets inputs through that do not fit their type, and so do we


def _unreadable(said: Mapping[str, Any], named: Mapping[str, Any]) -> AdapterParseError:
    predictor = named.get(said["predictor"]) or next(iter(named.values()))
    return AdapterParseError(
        adapter_name=said["adapter"],
        signature=predictor.signature,
        lm_response=said["reply"],
        parsed_result=said["parsed"],
    )
