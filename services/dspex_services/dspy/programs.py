"""Running a module: a fresh copy of a prototype for each request, in a context of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import dspy
import msgspec

from dspex_bus.signatures import Signature, parse_signature

from ..errors import InvalidInput
from ..handlers import Step
from ..programs import Origin
from ..programs.fitting import check_asked
from ..references import resolved
from .adapters import adapter_for
from .discovery import Directory
from .engine import Calling
from .failures import translated
from .given import check_limits, fitted, refuse_taken
from .loading import Loader, apply
from .metering import Halted, Meter
from .model import Models
from .options import ModelOptions, ModuleOptions, UserOptions
from .remembered import remember_type_adapters
from .remembering import said, with_history
from .sandbox import sandbox_factory
from .signatures import dspy_signature
from .telling import Telling
from .values import has_own_type, of_dspy, plain, typed

PARAMETERS = frozenset(
    ("top_p", "top_k", "stop", "seed", "presence_penalty", "frequency_penalty", "reasoning_effort", "n", "rollout_id")
)
"""What ``lm`` may hold. Addresses, keys and headers are the operator's."""

# RLM's asynchronous form runs the generated code on the event loop; CodeAct's is ReAct's, which it cannot run.
_THREADED = (dspy.RLM, dspy.CodeAct)


_SIMPLE = ("Predict", "ChainOfThought")
_LONE = (dspy.Predict, dspy.ChainOfThought)


class Programs:
    """The modules of one worker. Prototypes are made once; every request works on a copy, since a module that is used
    twice keeps what it was given."""

    def __init__(self, models: Models) -> None:
        remember_type_adapters()
        self.models = models
        self.directory = Directory()
        self.loader = Loader()
        self.sandbox_factory = sandbox_factory()
        self.functions: dict[str, Callable[..., Any]] = {}
        self.prototypes: dict[str, Any] = {}
        self._prototype = lru_cache(maxsize=256)(_build)

    def copy(self, kind: str, options: ModuleOptions) -> Any:
        """A module of one's own: ``kind`` is the name of a class of DSPy that takes a signature."""
        return self._prototype(kind, *options.spelled).deepcopy()

    def made(self, origin: Origin) -> Any:
        """A new module as the program was made of. Raises InvalidInput where this pool has none like it."""
        kind = origin.module.removeprefix("dspy.")
        if kind in _SIMPLE and origin.signature:
            return self._prototype(kind, origin.signature, origin.instructions).deepcopy()
        if origin.module in self.prototypes:
            return self.prototypes[origin.module].deepcopy()
        listed = ", ".join((*(f"dspy.{name}" for name in _SIMPLE), *sorted(self.prototypes)))
        raise InvalidInput(
            f"this pool cannot make the module {origin.module or 'that the program is of'!r}; it has: {listed}",
            code="unknown_module",
        )

    def signature_of(self, origin: Origin) -> Signature | None:
        """What a program reads and writes, where it is DSPy's own for a signature."""
        if origin.module.removeprefix("dspy.") not in _SIMPLE or not origin.signature:
            return None
        return parse_signature(origin.signature, origin.instructions)

    async def ready(self, module: Any, options: ModuleOptions | UserOptions, step: Step) -> Any:
        """The module with the state of the step's program, if it names one, and its demos."""
        if options.program is not None:
            program = await self.loader.load(step.bus, options.program)
            if isinstance(options, ModuleOptions):
                check_asked(program.origin.signature, options.spelled[0])
            apply(module, program.state, self.models)
            step.program = program.digest
        if options.demos:
            give_demos(module, await resolved(options.demos, step.bus, _files(types_of(module))))
        return module

    def lm(self, options: ModelOptions) -> Any:
        """The language model of a request. Raises InvalidInput for a parameter that is the operator's to set."""
        lm = self.models.get(options.model, options.temperature, options.max_tokens)
        if not options.lm:
            return lm
        for name in options.lm:
            if name not in PARAMETERS:
                known = ", ".join(sorted(PARAMETERS))
                raise InvalidInput(f"'lm' has no parameter {name!r}; there are: {known}", details={"parameter": name})
        return lm.copy(**options.lm)

    async def run(
        self,
        module: Any,
        inputs: Mapping[str, Any],
        options: ModelOptions,
        step: Step,
        signature: Signature | None = None,
    ) -> dict[str, Any]:
        """The prediction's fields as plain data. What the LM calls used is recorded in the step."""
        return plain(await self.predict(module, inputs, options, step, signature))

    async def predict(
        self,
        module: Any,
        inputs: Mapping[str, Any],
        options: ModelOptions,
        step: Step,
        signature: Signature | None = None,
    ) -> Any:
        """The prediction itself. Inputs and outputs are held to ``signature``, where the module is one of DSPy's for
        that signature."""
        lm = self.lm(options)
        meter = Meter(lm.model, step)
        telling = Telling(step.tokens, module) if step.tokens is not None else None
        context = dspy.context(
            lm=lm,
            adapter=adapter_for(options, self.models),
            trace=[],
            disable_history=True,
            callbacks=[one for one in (None if is_lone(module) else meter, telling) if one is not None],
        )
        engine = self.models.engine
        if engine.cache is None:
            engine.cache = step.cache
        values = dict(inputs)
        if step.conversation is not None:
            turns = await resolved(await step.conversation.history(), step.bus, _files(types_of(module)))
            values = with_history(module, values, turns)
        types = types_of(module)
        values = await resolved(values, step.bus, _files(types))
        if signature is not None:
            values = fitted(module, signature, values)
        refuse_taken(module, values)
        values = typed(types, values)
        try:
            calling = Calling(ttl=options.cache, program=step.program, meter=meter, telling=telling)
            with context, translated(), engine.calling(calling):
                prediction = self._answered(await self._call(module, values, step), meter)
        except Halted as halted:
            raise halted.error from halted
        finally:
            meter.stop()
        if signature is not None and prediction is not None:
            check_limits(signature, prediction)
        if step.conversation is not None:
            await step.conversation.remember(inputs, said(plain(prediction)))
        return prediction

    def _answered(self, prediction: Any, meter: Meter) -> Any:
        # Modules that try several times swallow what went wrong and answer with nothing.
        if prediction is None and meter.failure is not None:
            raise meter.failure
        return prediction

    async def _call(self, module: Any, inputs: dict[str, Any], step: Step) -> Any:
        if is_asynchronous(module):
            return await module.acall(**inputs)
        return await step.in_thread(lambda: module(**inputs))


def give_demos(module: Any, demos: list[dict[str, Any]] | dict[str, list[dict[str, Any]]]) -> None:
    """The demos for every predictor, or by predictor. Raises InvalidInput for one that the module does not have."""
    named = dict(module.named_predictors())
    for name in demos if isinstance(demos, dict) else ():
        if name not in named:
            raise InvalidInput(f"the module has no predictor {name!r}; it has: {', '.join(named)}")
    for name, predictor in named.items():
        given = demos.get(name) if isinstance(demos, dict) else demos
        if given:
            types = _types(predictor.signature, of_dspy)
            predictor.demos = [dspy.Example(**typed(types, demo)) for demo in given]


def options_of(kind: type[Any], values: dict[str, Any]) -> Any:
    """The fields of an options struct taken out of a mapping of inputs."""
    names = kind.__struct_fields__
    return convert({name: values.pop(name) for name in names if name in values}, kind)


def convert(values: Mapping[str, Any], kind: type[Any]) -> Any:
    """The struct of these values. Raises InvalidInput naming the field."""
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise InvalidInput(str(error)) from error


def _build(kind: str, signature: str, instructions: str | None) -> Any:
    return getattr(dspy, kind)(dspy_signature(signature, instructions))


def signature_of(module: Any) -> Any:
    """What a module's inputs are typed by: its own signature, or that of its one predictor."""
    own = getattr(module, "signature", None)
    if own is not None or not isinstance(module, dspy.Module):
        return own
    predictors = module.predictors()
    return predictors[0].signature if len(predictors) == 1 else None


def types_of(module: Any) -> dict[str, Any]:
    """The types of a module's inputs that JSON cannot say. Of several predictors only DSPy's own count: what else their
    module makes of its inputs is its affair."""
    signature = signature_of(module)
    if signature is not None:
        return _types(signature, has_own_type)
    predictors = module.predictors() if isinstance(module, dspy.Module) else ()
    found = [_types(predictor.signature, of_dspy) for predictor in reversed(predictors)]
    return {name: kind for types in found for name, kind in types.items()}


def _types(signature: Any, wanted: Callable[[Any], bool]) -> dict[str, Any]:
    fields = signature.input_fields.items()
    return {name: field.annotation for name, field in fields if wanted(field.annotation)}


def _files(types: Mapping[str, Any]) -> list[str]:
    return [name for name, kind in types.items() if of_dspy(kind)]


def is_lone(module: Any) -> bool:
    """Whether it is one predictor of DSPy's, or what wraps one to be called: it swallows no failure and runs in no
    thread, so that nothing need listen to it. To be listened to costs a quarter of a predictor's CPU."""
    if not isinstance(module, dspy.Module):
        module = getattr(module, "module", None)
    return type(module) in _LONE


def is_asynchronous(module: Any) -> bool:
    if isinstance(module, _THREADED):
        return False
    forward = getattr(module, "aforward", None)
    return forward is not None and inspect.iscoroutinefunction(forward)
