"""The list of modules that a compiled build compiles, and what it made of them."""

from __future__ import annotations

import ast
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


every = pytest.mark.parametrize(
    ("package", "module"), [(package, module) for package, modules in listed().items() for module in modules]
)


@every
def test_all_that_are_listed_are_compiled_or_none(package: str, module: str) -> None:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    assert module.startswith(f"dspex_{package}.")
    assert spec.origin.endswith(".py") is not compiled()


def test_the_list_is_in_order() -> None:
    assert all(modules == sorted(set(modules)) for modules in listed().values())


@every
def test_nothing_is_awaited_while_an_exception_is_handled(package: str, module: str) -> None:
    """A compiled coroutine that is suspended there leaves its exception behind as everybody's: all that are raised
    meanwhile have it as their context, and some for ever."""
    source = (PROJECT.parent / package / f"{module.replace('.', '/')}.py").read_text()
    found = [ast.unparse(node)[:60] for node in ast.walk(ast.parse(source)) if _waits_while_handling(node)]
    assert not found, f"{module}: {found}"


def _waits_while_handling(node: ast.AST) -> bool:
    if isinstance(node, ast.AsyncWith):  # what it calls at the end is awaited; these two never wait
        return not all(_never_waits(item.context_expr) for item in node.items)
    if not isinstance(node, ast.Try):
        return isinstance(node, ast.AsyncFor)
    handling = [*node.finalbody, *(statement for handler in node.handlers for statement in handler.body)]
    return any(isinstance(inner, ast.Await) for statement in handling for inner in ast.walk(statement))


def _never_waits(manager: ast.expr) -> bool:
    """A timeout of asyncio's, or a lock that is somebody's attribute."""
    called = isinstance(manager, ast.Call) and ast.unparse(manager.func) == "asyncio.timeout"
    return called or isinstance(manager, ast.Attribute)
