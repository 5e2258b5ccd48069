"""DSPy's History for a step that takes part in a conversation."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import dspy

from ..errors import InvalidInput
from ..threads import HISTORY

_BY_SIGNATURE = (dspy.Predict, dspy.ChainOfThought, dspy.ReAct, dspy.BestOfN, dspy.Refine)
"""Modules that hand their inputs to each of their predictors."""

_NOT_SAID = ("trajectory",)
"""Outputs that say how an answer was found, and are no part of it."""


def with_history(module: Any, inputs: Mapping[str, Any], turns: list[dict[str, Any]]) -> dict[str, Any]:
    """The module's inputs with the turns before. Raises InvalidInput for a module that has no place for them."""
    if HISTORY in inputs:
        raise InvalidInput(f"a step that remembers is given its {HISTORY!r}, and the context has one")
    if isinstance(module, _BY_SIGNATURE) or getattr(module, "by_signature", False):
        for predictor in module.predictors():
            if HISTORY in predictor.signature.fields:
                raise InvalidInput(f"a step that remembers needs no field {HISTORY!r} in its signature")
            predictor.signature = predictor.signature.append(HISTORY, dspy.InputField(), dspy.History)
    elif HISTORY not in inspect.signature(module.forward).parameters:
        known = ", ".join(f"dspy.{kind.__name__}" for kind in _BY_SIGNATURE)
        raise InvalidInput(
            f"{type(module).__name__} cannot remember: {known} can, and modules whose forward takes {HISTORY!r}",
            code="cannot_remember",
        )
    return {**inputs, HISTORY: dspy.History(messages=turns)}


def said(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """What of a module's outputs belongs to a conversation."""
    return {name: value for name, value in outputs.items() if name not in _NOT_SAID}
