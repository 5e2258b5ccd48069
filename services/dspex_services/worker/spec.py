"""What a worker process is started with, and where its handlers come from."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping

import msgspec

from dspex_bus.subjects import token

from ..errors import SetupError
from ..handlers import Handlers

NATIVE = "dspex_services.native:handlers"
DSPY = "dspex_services.dspy:handlers"


class PoolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A pool: ``size`` processes that serve the ``handlers`` at those import paths, and the DSPy ``modules``, the
    user's own, at those. ``path`` is put before Python's own search path; ``environment`` is added to the worker's."""

    pool: str
    handlers: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    size: int = 1
    slots: int = 16
    ack_wait_s: float = 15.0
    drain_s: float = 10.0
    path: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}

    def __post_init__(self) -> None:
        token(self.pool, "pool")


def load_handlers(spec: PoolSpec) -> Handlers:
    """The handlers a spec names, imported. Raises SetupError saying which could not be had and why."""
    sys.path[:0] = spec.path
    loaded = Handlers()
    for path in spec.handlers:
        loaded.include(_registry(path))
    if spec.modules:
        from ..dspy import module_handlers

        loaded.include(module_handlers(spec.modules))
    if not len(loaded):
        raise SetupError(f"the pool {spec.pool} has no handlers")
    return loaded


def _registry(path: str) -> Handlers:
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name or "handlers")
    except (ImportError, AttributeError) as error:
        raise SetupError(f"cannot import the handlers {path}: {error}") from error
    if not isinstance(found, Handlers):
        raise SetupError(f"{path} is a {type(found).__name__}; it must be a dspex.Handlers")
    return found
