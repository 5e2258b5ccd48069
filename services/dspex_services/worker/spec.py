"""What a worker process is started with, and where its handlers come from."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Mapping

import msgspec

from dspex_bus.names import token

from ..errors import SetupError
from ..handlers import Handlers

NATIVE = "dspex_services.native:handlers"
DSPY = "dspex_services.dspy:handlers"
OPTIMIZE = "dspex_services.dspy:optimizers"


class PoolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A pool: ``size`` processes that serve the ``handlers`` at those import paths, and the DSPy ``modules``, the
    user's own, at those. ``path`` is put before Python's own search path; ``environment`` is added to the worker's.
    ``python`` is another interpreter, or a virtual environment, with packages of its own, ours among them.

    A worker that lives and says nothing for ``silent_s``, and twice its ack wait, is killed and replaced.

    With a ``max_size`` there are more, up to that, when a task has waited for ``scale_after_s``, and fewer when for
    ``idle_s`` there was no need of them. A worker is replaced, without a gap, after ``recycle_after_tasks`` or
    ``recycle_after_s``, or when its resident memory is over ``recycle_over_mb`` MiB; 0 means never."""

    pool: str
    handlers: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    size: int = 1
    slots: int = 16
    ack_wait_s: float = 15.0
    silent_s: float = 45.0
    drain_s: float = 10.0
    max_size: int = 0
    scale_after_s: float = 0.5
    idle_s: float = 60.0
    recycle_after_tasks: int = 0
    recycle_after_s: float = 0.0
    recycle_over_mb: float = 0.0
    path: tuple[str, ...] = ()
    python: str = ""
    environment: Mapping[str, str] = {}

    def __post_init__(self) -> None:
        token(self.pool, "pool")
        if 0 < self.max_size < self.size:
            raise SetupError(
                f"the pool {self.pool} cannot have {self.size} workers at least and {self.max_size} at most"
            )


def _described(error: BaseException) -> str:
    """On one line, with the place that raised it where the message does not say it."""
    said = " ".join(str(error).split())
    if isinstance(error, ImportError | AttributeError):
        return said
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    if isinstance(error, SyntaxError) or not (frames := traceback.extract_tb(error.__traceback__)):
        return text
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})"


def load_handlers(spec: PoolSpec) -> Handlers:
    """The handlers a spec names, imported. Raises SetupError saying which could not be had and why."""
    sys.path[:0] = spec.path
    loaded = Handlers()
    for path in spec.handlers:
        loaded.include(_registry(path))
    if spec.modules:
        from ..dspy import module_handlers

        try:
            loaded.include(module_handlers(spec.modules))
        except SetupError:
            raise
        except BaseException as error:  # as above
            raise SetupError(f"cannot import the modules {', '.join(spec.modules)}: {_described(error)}") from error
    if not len(loaded):
        raise SetupError(f"the pool {spec.pool} has no handlers")
    return loaded


def _registry(path: str) -> Handlers:
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name or "handlers")
    except BaseException as error:  # the user's code runs: it may raise anything, and leave with SystemExit
        raise SetupError(f"cannot import the handlers {path}: {_described(error)}") from error
    if isinstance(found, Handlers):
        return found
    dspy = sys.modules.get("dspy")  # whoever defines a module of it has imported it
    if dspy is not None and isinstance(found, type) and issubclass(found, dspy.Module):
        from ..dspy import module_handlers

        return module_handlers([path])
    raise SetupError(f"{path} is a {type(found).__name__}; it must be a dspex.Handlers, or a dspy.Module class")
