"""The language model of a DSPy request: from the worker's environment, never from a message."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from ..errors import StepError
from ..handlers import Handlers
from ..lm import Configured
from .engine import Engine

# DSPy would choose LiteLLM, which costs seconds and hundreds of megabytes, when it sees these; the address is given
# to it explicitly instead.
_HIDDEN = ("OPENAI_API_BASE", "OPENAI_BASE_URL")


class Models:
    """Language models by what a step asked for, all over one engine. ``environment`` is read once, when the worker
    starts."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        source = dict(os.environ) if environment is None else environment
        self.configured = Configured(source)
        self.config = self.configured.get()
        self.engine = Engine(self.configured)
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        for name in _HIDDEN:
            os.environ.pop(name, None)
        self._made = lru_cache(maxsize=64)(self._make)

    def keep_for(self, handlers: Handlers) -> None:
        """Join the bus of the worker that serves the handlers, and close with it."""
        handlers.on_open(self.configured.endpoints.shares.join)
        handlers.on_close(self.configured.endpoints.shares.leave)
        handlers.on_close(self.engine.aclose)

    def get(self, model: str | None, temperature: float | None, max_tokens: int | None) -> Any:
        """A ``dspy.LM``. Raises StepError ``lm_not_configured`` where the environment names no model."""
        if self.config is None:
            raise StepError(
                "this worker has no language model: set DSPEX_MODEL and its key (OPENAI_API_KEY or ANTHROPIC_API_KEY), "
                "or DSPEX_BASE_URL, in the pool's environment",
                code="lm_not_configured",
            )
        return self._made(model or self.config.model, temperature, max_tokens)

    def _make(self, model: str, temperature: float | None, max_tokens: int | None) -> Any:
        return self.engine.lm(model, temperature=temperature, max_tokens=max_tokens)
