"""DSPy's adapters by name: how a signature becomes a prompt and a reply becomes fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspy
from dspy.adapters.baml_adapter import BAMLAdapter

from ..errors import StepError
from .model import Models
from .options import ModelOptions

ADAPTERS: dict[str, Callable[[], Any]] = {
    "chat": dspy.ChatAdapter,
    "json": dspy.JSONAdapter,
    "xml": dspy.XMLAdapter,
    "baml": BAMLAdapter,
}
TWO_STEP = "two_step"


def adapter_for(options: ModelOptions, models: Models) -> Any:
    """A new adapter for one request. Raises StepError where there is none of that name."""
    if options.adapter == TWO_STEP:
        return dspy.TwoStepAdapter(models.get(options.extraction_model or options.model, None, None))
    try:
        return ADAPTERS[options.adapter]()
    except KeyError:
        known = ", ".join((*ADAPTERS, TWO_STEP))
        raise StepError(f"no adapter {options.adapter!r}; there are: {known}", code="invalid_input") from None
