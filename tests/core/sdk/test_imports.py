"""What importing dspex costs, and what it promises."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

LOADED = "import sys, json; {}; print(json.dumps(list(sys.modules)))"
HEAVY = {"dspy", "numpy", "sklearn", "litellm", "aiohttp", "rich", "yaml", "jinja2"}
WORKER = """
from dspex_services.worker import __main__
from dspex_services.worker.spec import NATIVE, PoolSpec, load_handlers
load_handlers(PoolSpec(pool="native", handlers=(NATIVE,)))
"""
CODES = ("invalid_signature", "invalid_fields", "step_failed", "budget_exceeded", "unknown_template", "run_failed")


def loaded(program: str) -> set[str]:
    """The modules that a process of its own has loaded after the program."""
    code = LOADED.format(f"exec({program!r})")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    return set(json.loads(run.stdout))


def test_importing_dspex_imports_nothing_until_it_is_used() -> None:
    assert {name for name in loaded("import dspex") if name.startswith(("dspex", "msgspec", "anyio", "asyncio"))} == {
        "dspex",
        "dspex_bus",
        "dspex_bus.lazily",
    }


def test_writing_pipelines_imports_neither_client_nor_handlers() -> None:
    found = loaded("import dspex; dspex.pipeline([dspex.native('template', template='x')])")
    assert found.isdisjoint(HEAVY | {"anyio", "dspex.client", "dspex_services.handlers", "dspex_bus.bus"})


def test_every_public_name_together_imports_neither_dspy_nor_numpy_nor_a_web_client() -> None:
    assert loaded("from dspex import *").isdisjoint(HEAVY)


def test_a_client_imports_no_handlers_no_cache_and_no_optimizers() -> None:
    found = loaded("from dspex import Client, connect, connect_sync")
    assert found.isdisjoint(HEAVY)
    assert found.isdisjoint({"dspex_services.handlers", "dspex_services.cache", "dspex.optimizing", "dspex_bus.server"})
    assert "dspex_bus.signatures.parser" not in found


def test_a_native_worker_starts_without_what_its_first_steps_may_never_need() -> None:
    assert loaded(WORKER).isdisjoint(HEAVY)


def test_a_client_knows_the_errors_whose_codes_it_is_told() -> None:
    program = f"""
import dspex.client
from dspex_bus.errors import DspexError, all_errors
assert not [code for code in {CODES!r} if all_errors().get(code, DspexError) is DspexError]
"""
    loaded(program)


@pytest.mark.parametrize("package", ["dspex", "dspex_bus", "dspex_bus.signatures", "dspex_services"])
def test_names_imported_at_first_use_are_told_and_misspelt_ones_refused(package: str) -> None:
    module = importlib.import_module(package)
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'conect'"):
        _ = module.conect
    with pytest.raises(ImportError, match="conect"):
        exec(f"from {package} import conect")


@pytest.mark.parametrize("package", ["dspex", "dspex_bus", "dspex_router", "dspex_services"])
def test_public_names_exist_and_are_sorted(package: str) -> None:
    module = importlib.import_module(package)
    assert sorted(module.__all__) == list(module.__all__) or sorted(module.__all__, key=_ruff_order) == module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None


def _ruff_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions: how ruff sorts ``__all__``."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name
