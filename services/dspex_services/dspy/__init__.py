"""The DSPy pool. Importing this package imports DSPy: only its workers do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from ..handlers import Handlers
from .model import Models
from .modules import expand
from .pool import dspy_handlers, user_module
from .programs import Programs

if TYPE_CHECKING:
    handlers: Handlers

__all__ = ["module_handlers"]


@cache
def _programs() -> Programs:
    return Programs(Models())


def module_handlers(paths: Sequence[str]) -> Handlers:
    """The operator's own modules and metrics: by import path, or all that a package holds."""
    offered = Handlers()
    _programs().models.keep_for(offered)
    for path in dict.fromkeys(path for given in paths for path in expand(given)):
        offered.include(user_module(_programs(), path))
    return offered


def __getattr__(name: str) -> Handlers:
    # ``dspex_services.dspy:handlers`` is what a worker imports; the environment is read then and not before.
    if name == "handlers":
        return dspy_handlers(_programs())
    if name == "optimizers":
        from .optimizing import optimizing

        return optimizing(_programs())
    raise AttributeError(name)
