"""DSPy's History for a step that takes part in a conversation."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import dspy

from ..errors import InvalidInput
from ..threads import HISTORY
from .modules import entry

_BY_SIGNATURE = (dspy.Predict, dspy.ChainOfThought, dspy.ReAct, dspy.BestOfN, dspy.Refine)
"""Modules that hand their inputs to each of their predictors."""

_NOT_SAID = ("trajectory",)
"""Outputs that say how an answer was found, and are no part of it."""


def with_history(module: Any, inputs: Mapping[str, Any], turns: list[dict[str, Any]]) -> dict[str, Any]:
    """The module's inputs with the turns before, in the signature's own field for them or in one that it gets. Raises
    InvalidInput for a module that has no place for them."""
    name = HISTORY
    if isinstance(module, _BY_SIGNATURE) or getattr(module, "by_signature", False):
        name = _own_field(module) or HISTORY
        for predictor in module.predictors():
            if name not in predictor.signature.fields:
                predictor.signature = predictor.signature.append(name, dspy.InputField(), dspy.History)
            elif predictor.signature.fields[name].annotation is not dspy.History:
                raise InvalidInput(f"the field {name!r} of a step that remembers must be a dspy.History")
    elif (called := entry(module)) is None or name not in inspect.signature(called).parameters:
        known = ", ".join(f"dspy.{kind.__name__}" for kind in _BY_SIGNATURE)
        raise InvalidInput(
            f"{type(module).__name__} cannot remember: {known} can, and modules whose forward takes {HISTORY!r}",
            code="cannot_remember",
        )
    if name in inputs:
        raise InvalidInput(f"a step that remembers is given its {name!r}, and the context has one")
    return {**inputs, name: dspy.History(messages=turns)}


def _own_field(module: Any) -> str | None:
    fields = [field for predictor in module.predictors() for field in predictor.signature.input_fields.items()]
    return next((name for name, field in fields if field.annotation is dspy.History), None)


def said(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """What of a module's outputs belongs to a conversation."""
    return {name: value for name, value in outputs.items() if name not in _NOT_SAID}
