"""Where code that a model wrote is run: as the operator chose in ``DSPEX_SANDBOX``, and nowhere without it.

``deno``: DSPy's own sandbox, Pyodide in Deno. ``package.module:factory``: a callable without arguments that makes a
``dspy`` CodeInterpreter, such as a client of a remote sandbox. ``local``: a plain Python process, which protects
nothing: for tests, and for models and inputs one trusts as one's own code."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import dspy
from dspy.primitives.local_interpreter import LocalInterpreter

from ..errors import SetupError, StepError

VARIABLE = "DSPEX_SANDBOX"
_LOCAL_TIMEOUT_S = 30.0


def sandbox_factory(environment: Mapping[str, str] | None = None) -> Callable[[], Any] | None:
    """What makes an interpreter, None where the operator named none. Raises SetupError where the name is wrong."""
    chosen = (os.environ if environment is None else environment).get(VARIABLE, "")
    match chosen:
        case "":
            return None
        case "deno":
            return dspy.PythonInterpreter  # type: ignore[no-any-return]
        case "local":
            return lambda: LocalInterpreter(execution_timeout=_LOCAL_TIMEOUT_S)
    module, _, name = chosen.partition(":")
    try:
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]
    except (ImportError, AttributeError, ValueError) as error:
        raise SetupError(f"{VARIABLE}={chosen!r}: cannot import that factory: {error}") from error


class Sandbox:
    """The interpreters of one request; closing it ends them all, so that code which never returns is stopped too."""

    def __init__(self, module: str, factory: Callable[[], Any] | None) -> None:
        if factory is None:
            raise StepError(
                f"{module} runs code that the model writes, and this pool has no sandbox for it: set {VARIABLE} in the "
                "pool's environment to deno (DSPy's sandbox), to an interpreter factory's import path, or to local (no "
                "protection at all)",
                code="sandbox_not_configured",
            )
        self._factory = factory
        self._made: list[Any] = []
        self.execution_instructions = getattr(factory, "execution_instructions", "")

    def __call__(self) -> Any:
        interpreter = self._factory()
        self._made.append(interpreter)
        return interpreter

    def close(self) -> None:
        for interpreter in self._made:
            with suppress(dspy.primitives.CodeInterpreterError, OSError):
                interpreter.shutdown()
