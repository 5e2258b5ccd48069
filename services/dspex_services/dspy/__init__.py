"""The DSPy pool. Importing this package imports DSPy: only its workers do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..handlers import Handlers
from .handlers import dspy_handlers, user_module
from .model import Models
from .programs import Programs

if TYPE_CHECKING:
    handlers: Handlers

__all__ = ["pool_handlers"]


def pool_handlers(modules: Sequence[str] = ()) -> Handlers:
    """What a worker of the pool offers: DSPy's modules, and the operator's own by import path."""
    programs = Programs(Models())
    offered = dspy_handlers(programs)
    for path in modules:
        offered.include(user_module(programs, path))
    return offered


def __getattr__(name: str) -> Handlers:
    # ``dspex_services.dspy:handlers`` is what a worker imports; the environment is read then and not before.
    if name == "handlers":
        return pool_handlers()
    raise AttributeError(name)
