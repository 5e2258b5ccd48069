"""The registry: which handlers a worker offers, what each reads and writes, and how it is called."""

from __future__ import annotations

import inspect
import logging
import math
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

from dspex_bus import Bus
from dspex_bus.errors import NotFound
from dspex_bus.wire import HandlerInfo

from .errors import InvalidInput, InvalidOutput, SetupError
from .step import Step

__all__ = ["Handler", "Handlers", "Step"]

logger = logging.getLogger("dspex.worker")

F = TypeVar("F", bound=Callable[..., Any])

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

Reads = Literal["fields", "signature", "any"]
ProgramOf = Callable[[Bus, Mapping[str, Any]], Awaitable[str]]


@dataclass(frozen=True)
class Handler:
    """``convert`` makes the function's first argument of the task's fields; None hands it the mapping itself."""

    info: HandlerInfo
    function: Callable[..., Any]
    asynchronous: bool
    takes_step: bool
    convert: Callable[[dict[str, Any]], Any] | None = None

    def arguments(self, inputs: dict[str, Any], options: dict[str, Any], step: Step | None) -> tuple[Any, ...]:
        """What the function is called with; ``step`` is needed where it takes one. Constants win over the context.
        Raises InvalidInput naming the field."""
        if self.info.reads == "signature":
            values: Any = options
        else:
            values = {**inputs, **options} if options else inputs
        if self.convert is not None:
            try:
                values = self.convert(values)
            except msgspec.ValidationError as error:
                what = f"{self.info.name}'s constants" if self.info.reads == "signature" else self.info.name
                raise InvalidInput(f"{what}: {error}", details={"handler": self.info.name}) from error
        return (values, step) if self.takes_step else (values,)

    def outputs(self, returned: Any) -> tuple[dict[str, Any], bytes]:
        """What the function returned, as JSON and as whoever decodes that will see it. Raises InvalidOutput."""
        try:
            encoded = _encode(returned)
            values = _decode(encoded)
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise InvalidOutput(f"{self.info.name} returned what cannot travel: {error}") from error
        if not isinstance(values, dict):
            raise InvalidOutput(
                f"{self.info.name} returned {type(returned).__name__}; a handler returns a Struct or a dict"
            )
        # JSON has neither of them: they would arrive as null. To look through everything is dear, and seldom needed.
        if b"null" in encoded and (place := _not_finite(msgspec.to_builtins(returned, str_keys=True), "$")):
            raise InvalidOutput(f"{self.info.name} returned what cannot travel: {place} is not a finite number")
        return values, encoded


class Handlers:
    """A collection of handlers that a pool serves.

        handlers = Handlers()

        @handlers.handler("text.length")
        def length(request: Text) -> Length: ...

    A handler takes its input (a msgspec Struct, or a dict) and, if it wants one, a :class:`Step`; it returns a
    Struct or a dict. A plain function runs in a thread, a coroutine function on the event loop.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self._opening: list[Callable[[Bus], Awaitable[None]]] = []
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self._programs: list[ProgramOf] = []

    def handler(
        self,
        name: str,
        *,
        reads: Reads = "fields",
        implementation: Literal["native", "dspy"] = "native",
        adds: tuple[str, ...] = (),
        resumes: bool = False,
        pure: bool = False,
        carries: bool = False,
    ) -> Callable[[F], F]:
        """Register a function under ``name``.

        With ``reads="signature"`` its input type describes the constants alone, and the signature's fields are in
        ``step.inputs``; ``adds`` names outputs besides the signature's. ``resumes``: however many workers are lost over
        a task, it is delivered again; the function goes on from where it was, and gives up by itself where that leads
        nowhere. ``pure`` declares that it is cheap, has no side effects and calls no model: such steps, where they
        follow each other, travel as one task, and may run again although they have succeeded. ``carries``: it is not
        pure, and those that follow it travel with it."""

        def register(function: F) -> F:
            described = describe(name, function, reads=reads, implementation=implementation, pure=pure)
            if reads == "signature":
                described = msgspec.structs.replace(described, outputs=adds)
            self.add(function, msgspec.structs.replace(described, resumes=resumes, carries=carries))
            return function

        return register

    def add(self, function: Callable[..., Any], info: HandlerInfo) -> None:
        """Register a function under a description of one's own."""
        if info.name in self._handlers:
            raise SetupError(f"two handlers are called {info.name!r}")
        self._put(function, info)

    def replace(self, name: str, function: Callable[..., Any]) -> None:
        """Have another function answer for a handler that is there, under the same description."""
        self._put(function, self.get(name).info)

    def _put(self, function: Callable[..., Any], info: HandlerInfo) -> None:
        parameters = _parameters(function)
        kind = _annotations(function).get(parameters[0], dict)
        struct = isinstance(kind, type) and issubclass(kind, msgspec.Struct)
        self._handlers[info.name] = Handler(
            info=info,
            function=function,
            asynchronous=inspect.iscoroutinefunction(function),
            takes_step=len(parameters) > 1,
            convert=_converter(kind) if struct else None,
        )

    def include(self, other: Handlers) -> None:
        """Add another collection's handlers to this one."""
        for handler in other._handlers.values():
            if handler.info.name in self._handlers:
                raise SetupError(f"two handlers are called {handler.info.name!r}")
            self._handlers[handler.info.name] = handler
        self._opening += other._opening
        self._closing += other._closing
        self._programs += other._programs

    def with_programs(self, program_of: ProgramOf) -> None:
        """Some of these handlers run stored programs: what is kept of their steps depends on which one was meant."""
        self._programs.append(program_of)

    async def program_of(self, bus: Bus, options: Mapping[str, Any]) -> str:
        """The digest of the stored program that constants mean now, '' where they name none."""
        for program_of in self._programs:
            if digest := await program_of(bus, options):
                return digest
        return ""

    def on_open(self, callback: Callable[[Bus], Awaitable[None]]) -> None:
        """Have something given its bus by the worker that is to serve these handlers."""
        self._opening.append(callback)

    async def open(self, bus: Bus) -> None:
        for callback in self._opening:
            await callback(bus)

    def on_close(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Have something closed when the worker that serves these handlers leaves."""
        self._closing.append(callback)

    async def close(self) -> None:
        for callback in self._closing:
            try:
                await callback()
            except Exception:  # whoever's it is: the others are closed all the same
                logger.exception("handlers could not be closed")

    def get(self, name: str) -> Handler:
        try:
            return self._handlers[name]
        except KeyError:
            raise NotFound(
                f"this worker has no handler {name!r}; it has: {', '.join(sorted(self._handlers))}",
                code="unknown_handler",
            ) from None

    def resumes(self, name: str) -> bool:
        return name in self._handlers and self._handlers[name].info.resumes

    def find(self, name: str) -> Handler | None:
        return self._handlers.get(name)

    def infos(self) -> tuple[HandlerInfo, ...]:
        return tuple(handler.info for handler in self._handlers.values())

    def __len__(self) -> int:
        return len(self._handlers)


def describe(
    name: str,
    function: Callable[..., Any],
    *,
    reads: Reads,
    implementation: Literal["native", "dspy"],
    pure: bool = False,
) -> HandlerInfo:
    """What a function's types and docstring say about it."""
    annotations = _annotations(function)
    kind = annotations.get(_parameters(function)[0], dict)
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    schema: dict[str, Any] = {}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = msgspec.structs.fields(kind)
        required = tuple(found.encode_name for found in fields if found.required)
        optional = tuple(found.encode_name for found in fields if not found.required)
        schema = msgspec.json.schema(kind)
    elif reads == "fields":
        reads = "any"
    return HandlerInfo(
        name=name,
        implementation=implementation,
        reads=reads,
        required=required,
        optional=optional,
        outputs=_outputs(annotations.get("return")) if reads != "signature" else None,
        summary=(inspect.getdoc(function) or "").partition("\n")[0],
        schema=schema,
        pure=pure,
    )


def _not_finite(value: Any, place: str) -> str:
    """Where the first NaN or infinity is, '' where there is none."""
    if isinstance(value, float):
        return "" if math.isfinite(value) else place
    if isinstance(value, dict):
        items = ((f"{place}.{key}", item) for key, item in value.items())
    elif isinstance(value, list):
        items = ((f"{place}[{index}]", item) for index, item in enumerate(value))
    else:
        return ""
    return next((found for path, item in items if (found := _not_finite(item, path))), "")


def _outputs(kind: Any) -> tuple[str, ...] | None:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return tuple(found.encode_name for found in msgspec.structs.fields(kind))
    return None


def _parameters(function: Callable[..., Any]) -> list[str]:
    names = list(inspect.signature(function).parameters)
    if not 1 <= len(names) <= 2:
        raise SetupError(f"the handler {function.__qualname__} must take its input and, if it wants one, a step")
    return names


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except NameError as error:
        raise SetupError(f"the types of the handler {function.__qualname__} cannot be resolved: {error}") from error


def _converter(kind: type[msgspec.Struct]) -> Callable[[dict[str, Any]], Any]:
    return lambda values: msgspec.convert(values, kind)
