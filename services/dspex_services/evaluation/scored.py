"""What a prediction is worth, as a step's input and output."""

from __future__ import annotations

from typing import Any

import msgspec

from .metrics import compared


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """``example_inputs`` are the fields of the example that were asked; the others are the right answers."""

    example: dict[str, Any]
    prediction: dict[str, Any]
    metric: str | dict[str, Any] = "exact_match"
    example_inputs: list[str] = []


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """``score`` is from 0 to 1."""

    score: float
    feedback: str = ""


def scored(request: Scored) -> Score:
    """By a metric that compares fields."""
    value, feedback = compared(request.metric, request.example, request.prediction, request.example_inputs)
    return Score(score=value, feedback=feedback)
