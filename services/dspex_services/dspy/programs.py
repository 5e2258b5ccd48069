"""Running a module: a fresh copy of a prototype for each request, in a context of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import anyio
import dspy
import msgspec

from dspex_bus.wire import Usage

from ..errors import StepError
from .failures import translated
from .model import Meter, Models
from .signatures import dspy_signature

ADAPTERS: dict[str, Callable[[], Any]] = {
    "chat": dspy.ChatAdapter,
    "json": dspy.JSONAdapter,
    "xml": dspy.XMLAdapter,
}


class ModelOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What any DSPy step may say of its model; address and key are the worker's own."""

    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    adapter: str = "chat"


class ModuleOptions(ModelOptions, frozen=True, kw_only=True):
    """The constants of a step with a signature. ``demos`` are examples: objects with the signature's fields."""

    signature: str
    instructions: str | None = None
    demos: list[dict[str, Any]] = []


class Programs:
    """The modules of one worker. Prototypes are made once; every request works on a copy, since a module that is used
    twice keeps what it was given."""

    def __init__(self, models: Models) -> None:
        self.models = models
        self._prototype = lru_cache(maxsize=256)(_build)

    def copy(self, kind: str, options: ModuleOptions) -> Any:
        """A module of one's own: ``kind`` is the name of a class of DSPy that takes a signature."""
        module = self._prototype(kind, options.signature, options.instructions).deepcopy()
        if options.demos:
            demos = [dspy.Example(**demo) for demo in options.demos]
            for predictor in module.predictors():
                predictor.demos = demos
        return module

    async def run(
        self, module: Any, inputs: dict[str, Any], options: ModelOptions
    ) -> tuple[dict[str, Any], Usage | None]:
        """The prediction's fields as plain data, and what its LM calls used."""
        lm = self.models.get(options.model, options.temperature, options.max_tokens)
        meter = Meter(lm.model)
        settings = dspy.context(
            lm=lm, adapter=_adapter(options.adapter), trace=[], disable_history=True, callbacks=[meter]
        )
        with settings, translated(), dspy.track_usage() as counted:
            prediction = await _call(module, inputs)
        return _plain(prediction), meter.usage(counted.get_total_tokens())


def _build(kind: str, signature: str, instructions: str | None) -> Any:
    return getattr(dspy, kind)(dspy_signature(signature, instructions))


def _adapter(name: str) -> Any:
    try:
        return ADAPTERS[name]()
    except KeyError:
        raise StepError(f"no adapter {name!r}; there are: {', '.join(ADAPTERS)}", code="invalid_input") from None


async def _call(module: Any, inputs: dict[str, Any]) -> Any:
    if _asynchronous(module):
        return await module.acall(**inputs)
    # anyio's threads see the context's settings; a thread that overruns keeps its slot until it ends.
    return await anyio.to_thread.run_sync(lambda: module(**inputs))


def _asynchronous(module: Any) -> bool:
    forward = getattr(module, "aforward", None)
    return forward is not None and inspect.iscoroutinefunction(forward)


def _plain(prediction: Any) -> dict[str, Any]:
    """JSON-friendly fields; pydantic values as objects."""
    values = prediction.toDict() if hasattr(prediction, "toDict") else prediction
    if not isinstance(values, dict):
        raise StepError(
            f"the module answered with {type(prediction).__name__}; it must return a dspy.Prediction or a dict",
            code="invalid_output",
        )
    return msgspec.to_builtins(values, enc_hook=_dump, str_keys=True)  # type: ignore[no-any-return]


def _dump(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "toDict"):
        return value.toDict()
    return str(value)
