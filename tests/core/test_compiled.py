"""The list of modules that a compiled build compiles, and what it made of them."""

from __future__ import annotations

import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from dspex_bus.compiled import compiled

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def listed() -> dict[str, list[str]]:
    hook = tomllib.loads(PROJECT.read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    found: dict[str, list[str]] = hook["compiled"]
    return found


@pytest.mark.parametrize(
    ("package", "module"), [(package, module) for package, modules in listed().items() for module in modules]
)
def test_all_that_are_listed_are_compiled_or_none(package: str, module: str) -> None:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    assert module.startswith(f"dspex_{package}.")
    assert spec.origin.endswith(".py") is not compiled()


def test_the_list_is_in_order() -> None:
    assert all(modules == sorted(set(modules)) for modules in listed().values())
