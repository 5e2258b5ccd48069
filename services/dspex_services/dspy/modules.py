"""Users' own DSPy modules and metrics, offered by the operator by import path: no message has anything imported."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

import dspy

from ..errors import SetupError


def import_object(path: str) -> Any:
    """The ``dspy.Module`` class or the function at ``package.module:name``. Raises SetupError saying what is wrong."""
    module, _, name = path.partition(":")
    if not name:
        raise SetupError(f"{path!r} is no import path; write package.module:Class")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SetupError(f"cannot import {path}: {error}") from error
    if not (is_module(found) or inspect.isroutine(found)):
        raise SetupError(f"{path} is neither a dspy.Module class nor a function")
    if is_module(found) and entry(found) is None:
        raise SetupError(f"{path} has neither forward nor aforward")
    return found


def is_module(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, dspy.Module)


def entry(module: Any) -> Any:
    """What a call of the module runs: ``forward``, or, of a module that has no other, ``aforward``; None without."""
    return getattr(module, "forward", None) or getattr(module, "aforward", None)


def expand(path: str) -> list[str]:
    """The path itself, or, for a package or module without ``:``, every ``dspy.Module`` class and public function that
    is defined in it. Raises SetupError."""
    if ":" in path:
        return [path]
    try:
        root = importlib.import_module(path)
        names = [path]
        if hasattr(root, "__path__"):
            within = pkgutil.walk_packages(root.__path__, f"{path}.")
            names += [info.name for info in within if not info.name.endswith(".__main__")]  # that would run a program
        found = [
            f"{name}:{attribute}"
            for name in names
            for attribute, value in vars(importlib.import_module(name)).items()
            if _offered(value, name, attribute)
        ]
    except ImportError as error:
        raise SetupError(f"cannot import {path}: {error}") from error
    if not found:
        raise SetupError(f"{path} defines no dspy.Module and no public function")
    return found


def _offered(value: Any, module: str, name: str) -> bool:
    if name.startswith("_") or getattr(value, "__module__", None) != module:
        return False
    return inspect.isfunction(value) or (is_module(value) and entry(value) is not None and not _needs_arguments(value))


def _needs_arguments(made: Any) -> bool:
    parameters = list(inspect.signature(made.__init__).parameters.values())[1:]
    return any(
        parameter.default is parameter.empty and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        for parameter in parameters
    )


def fields(module: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names that a call of the module requires, and those it has defaults for."""
    parameters = [
        parameter
        for name, parameter in inspect.signature(entry(module)).parameters.items()
        if name != "self" and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    required = tuple(parameter.name for parameter in parameters if parameter.default is parameter.empty)
    return required, tuple(parameter.name for parameter in parameters if parameter.name not in required)
