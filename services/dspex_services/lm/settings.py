"""The operator's table of models: addresses, limits and prices, in a YAML or JSON file named by ``DSPEX_MODELS``.

    openai/gpt-4o-mini:
      price: {input: 1.5, output: 6.0}      # a million tokens, in your currency
      max_concurrent: 32
      requests_per_minute: 500
    openai/llama3.1:
      base_url: http://127.0.0.1:11434/v1
    "*":
      timeout_s: 120

A model's own name counts before patterns (``*`` and ``?``), which count in the order written. No price is built in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec

from ..errors import SetupError
from .endpoint import Endpoints
from .errors import LMBadRequest
from .types import LMConfig

MODELS = "DSPEX_MODELS"


class ModelTable:
    """What the file says: for each name or pattern, fields of an LMConfig."""

    def __init__(self, entries: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._entries = dict(entries or {})
        for name, entry in self._entries.items():
            if "model" in entry:
                raise LMBadRequest(f"{name}: a model's entry cannot rename it")
            _with(LMConfig(), entry)

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> ModelTable:
        """Raises SetupError naming the file and what is wrong with it."""
        path = env.get(MODELS)
        if not path:
            return cls()
        import yaml

        try:
            raw: Any = yaml.safe_load(Path(path).read_text("utf-8"))
            return cls(msgspec.convert(raw or {}, dict[str, dict[str, Any]]))
        except (OSError, UnicodeDecodeError, yaml.YAMLError, msgspec.ValidationError, LMBadRequest) as error:
            raise SetupError(f"the table of models {path} ({MODELS}) cannot be used: {error}") from error

    def over(self, config: LMConfig) -> LMConfig:
        """The configuration with what the table says of its model in place of its own."""
        entry = self._entries.get(config.model)
        if entry is None:
            entry = next((entry for name, entry in self._entries.items() if fnmatchcase(config.model, name)), {})
        return _with(config, entry)


def _with(config: LMConfig, entry: Mapping[str, Any]) -> LMConfig:
    return msgspec.convert({**msgspec.to_builtins(config), **entry}, LMConfig)


class Configured:
    """Each model's configuration, from the environment and the operator's table, both read once; and what the calls of
    a process share."""

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self.env = os.environ if env is None else env
        self.endpoints = Endpoints()
        self._table: ModelTable | None = None
        self._known: dict[str | None, LMConfig | None] = {}

    def get(self, model: str | None = None) -> LMConfig | None:
        """The configuration of a model, or of the environment's own; None where there is none."""
        if model not in self._known:
            self._known[model] = self._find(model)
        return self._known[model]

    def _find(self, model: str | None) -> LMConfig | None:
        config = LMConfig.from_environment(self.env, model)
        if config is None:
            return None
        if self._table is None:
            self._table = ModelTable.from_environment(self.env)
        return self._table.over(config)
