"""Users' own DSPy modules, offered by the operator by import path: nothing a message names is ever imported."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import dspy

from ..errors import SetupError


def import_module(path: str) -> Any:
    """The ``dspy.Module`` class at ``package.module:Class``. Raises SetupError saying what is wrong with it."""
    module, _, name = path.partition(":")
    if not name:
        raise SetupError(f"{path!r} is no import path; write package.module:Class")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SetupError(f"cannot import {path}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, dspy.Module)):
        raise SetupError(f"{path} is no dspy.Module class")
    return found


def fields(module: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names ``forward`` requires and those it has defaults for."""
    parameters = [
        parameter
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if name != "self" and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    required = tuple(parameter.name for parameter in parameters if parameter.default is parameter.empty)
    return required, tuple(parameter.name for parameter in parameters if parameter.name not in required)
