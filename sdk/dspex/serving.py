"""Functions that stay here: workers ask for them over the bus, and nothing of them travels."""

from __future__ import annotations

import importlib
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import anyio

from dspex_bus import Bus, Message, Subscription, subjects
from dspex_bus.claim import Claims, claimed
from dspex_bus.errors import DspexError
from dspex_bus.wire import ErrorInfo, decode, encode, error_info
from dspex_services.evaluation.metrics import MetricSpec, as_score, metric_spec, room

Metric = str | Mapping[str, Any] | Callable[..., Any]
"""A built-in metric's name, an import path, a mapping with ``handler`` or ``judge``, or a function."""

_AT_ONCE = 16


async def metric_for(bus: Bus, metric: Metric) -> tuple[Served | None, MetricSpec]:
    """What workers are told of a metric, and what serves it from here where it cannot be imported: to be closed when
    nobody scores by it any more."""
    if not callable(metric):
        return None, metric_spec(metric)
    path = import_path(metric)
    if path is not None:
        return None, metric_spec(path)
    served = Served(bus, metric, secrets.token_hex(8))
    await served.start()
    return served, metric_spec({"served": served.subject})


def import_path(thing: Any) -> str | None:
    """Where others can import a class or function from; None for a lambda, what is made inside a function, or what
    ``__main__`` defines."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not module or not name or module == "__main__" or not name.isidentifier():
        return None
    try:
        return f"{module}:{name}" if getattr(importlib.import_module(module), name) is thing else None
    except (ImportError, AttributeError):
        return None


class Fields(dict[str, Any]):
    """An example or a prediction, by key and by attribute."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Served:
    """A metric that is called here. It gets the example and the prediction, and, if it takes three arguments, a trace
    that says no more than whether there is one."""

    def __init__(self, bus: Bus, function: Callable[..., Any], id: str) -> None:
        self.subject = subjects.served(id)
        self._bus = bus
        self._claims = Claims(bus)
        self._function = function
        self._room = room(function)
        self._limit = anyio.CapacityLimiter(_AT_ONCE)
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        self._subscription = await self._bus.subscribe(self.subject, self._on_call)

    async def close(self) -> None:
        if self._subscription is not None:
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                await self._subscription.close()

    async def _on_call(self, message: Message) -> None:
        try:
            asked = await self._asked(message)
            score = await anyio.to_thread.run_sync(self._score, asked, limiter=self._limit)
            data, headers = await self._claims.pack(message.reply, encode(score))
            await self._bus.publish(message.reply, data, headers=headers)
        except DspexError as error:
            await self._refuse(message, error_info(error))
        except Exception as error:  # the user's function: whatever it is, the job is told
            await self._refuse(message, ErrorInfo(code="metric_failed", message=f"{type(error).__name__}: {error}"))

    async def _asked(self, message: Message) -> dict[str, Any]:
        data = await self._claims.unpack(message.subject, message.data, message.headers)
        if claimed(message.data, message.headers) is not None:
            await self._claims.drop(message.subject, message.headers)
        return decode(dict[str, Any], data, subject=message.subject)

    async def _refuse(self, message: Message, error: ErrorInfo) -> None:
        headers = {"Nats-Service-Error-Code": "500", "Nats-Service-Error": error.code}
        await self._bus.publish(message.reply, encode(error), headers=headers)

    def _score(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        example = Fields(asked["example"])
        arguments: tuple[Any, ...] = (
            example,
            Fields(asked["prediction"]),
            [] if asked.get("tracing") else None,
            asked.get("predictor"),
            None,
        )
        score = as_score(self._function(*arguments[: self._room]), getattr(self._function, "__name__", "the metric"))
        return {"score": score.value, "feedback": score.feedback}
