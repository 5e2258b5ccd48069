"""What importing dspex costs, and what it promises."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

LOADED = "import sys, json, dspex; print(json.dumps([name for name in sys.modules if '.' not in name]))"


def test_importing_dspex_imports_neither_dspy_nor_numpy_nor_a_web_client() -> None:
    run = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, timeout=30)
    assert {"dspy", "numpy", "sklearn", "litellm", "aiohttp", "rich", "yaml"}.isdisjoint(json.loads(run.stdout))


@pytest.mark.parametrize("package", ["dspex", "dspex_bus", "dspex_router", "dspex_services"])
def test_public_names_exist_and_are_sorted(package: str) -> None:
    module = importlib.import_module(package)
    assert sorted(module.__all__) == list(module.__all__) or sorted(module.__all__, key=_ruff_order) == module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None


def _ruff_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions: how ruff sorts ``__all__``."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name
