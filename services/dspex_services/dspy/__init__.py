"""The DSPy pool. Importing this package imports DSPy: only its workers do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from ..handlers import Handlers
from .model import Models
from .pool import dspy_handlers, user_module
from .programs import Programs

if TYPE_CHECKING:
    handlers: Handlers

__all__ = ["module_handlers"]


@cache
def _programs() -> Programs:
    return Programs(Models())


def module_handlers(paths: Sequence[str]) -> Handlers:
    """The operator's own modules, by import path."""
    offered = Handlers()
    offered.on_close(_programs().models.engine.aclose)
    for path in paths:
        offered.include(user_module(_programs(), path))
    return offered


def __getattr__(name: str) -> Handlers:
    # ``dspex_services.dspy:handlers`` is what a worker imports; the environment is read then and not before.
    if name == "handlers":
        offered = dspy_handlers(_programs())
        offered.on_close(_programs().models.engine.aclose)
        return offered
    raise AttributeError(name)
