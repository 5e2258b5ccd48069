"""One call of a program in whatever state an optimizer has brought it to: the step ``dspy.Forward``.

The answer holds the prediction and the trace that optimizers learn from: each predictor's inputs and outputs, by its
name. A reply that cannot be read is an answer too: optimizers learn from those as well."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import dspy
import msgspec
from dspy.utils.exceptions import AdapterParseError

from ..handlers import Handlers, Step
from ..programs import Origin
from .assembling import assembled
from .loading import apply
from .options import ModelOptions
from .programs import Programs, is_asynchronous, signature_of
from .values import plain

FORWARD = "dspy.Forward"

_KEPT = 32
_encode = msgspec.json.Encoder().encode


class Origins(msgspec.Struct, frozen=True, kw_only=True):
    """What a program is made of, before its state."""

    module: str
    signature: str | None = None
    instructions: str | None = None
    options: dict[str, Any] = {}


class ForwardOptions(ModelOptions, frozen=True, kw_only=True):
    """``state`` is what the module's ``dump_state`` says, or ``digest`` its name in the registry's store. ``lms`` are
    predictors' own models: ``model`` and parameters, by the predictor's name. ``inputs`` are the call's."""

    origin: Origins
    state: dict[str, Any] | None = None
    digest: str = ""
    lms: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    inputs: dict[str, Any] = msgspec.field(default_factory=dict)


def forwarding(programs: Programs) -> Handlers:
    handlers = Handlers()
    ready = _Ready(programs)

    @handlers.handler(FORWARD, implementation="dspy")
    async def forward(request: ForwardOptions, step: Step) -> dict[str, Any]:
        """Run a program in a given state, and tell what each of its predictors did."""
        return await programs.run(await ready.module(request, step), request.inputs, request, step)

    return handlers


class _Ready:
    """Programs in their states, the last few: an optimizer calls each for every example. As in DSPy's own evaluation,
    calls of one program share it."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._kept: OrderedDict[bytes, _Traced] = OrderedDict()

    async def module(self, request: ForwardOptions, step: Step) -> _Traced:
        key = _encode((request.origin, request.state, request.digest, request.lms))
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = await self._made(request, step)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return found

    async def _made(self, request: ForwardOptions, step: Step) -> _Traced:
        programs, state = self._programs, request.state
        module = await assembled(programs, step.bus, Origin(**msgspec.structs.asdict(request.origin)))
        if state is None and request.digest:
            state = await programs.loader.state(step.bus, request.digest)
        if state is not None:
            apply(module, state, programs.models)
        for name, predictor in module.named_predictors():
            if name in request.lms:
                predictor.lm = model_of(programs, request.lms[name])
        return _TracedAsynchronously(module) if is_asynchronous(module) else _Traced(module)


def model_of(programs: Programs, spec: Mapping[str, Any]) -> Any:
    """One of the pool's models with a call's own parameters."""
    rest = dict(spec)
    known = {name: rest.pop(name, None) for name in ("model", "temperature", "max_tokens")}
    return programs.lm(ModelOptions(**known, lm={name: value for name, value in rest.items() if value is not None}))


class _Traced:
    """A module that answers with its trace besides the prediction."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.signature = signature_of(module)

    def __call__(self, **inputs: Any) -> dict[str, Any]:
        try:
            prediction = self.module(**inputs)
        except AdapterParseError as error:
            return self.unreadable(error)
        return self.answered(prediction)

    def answered(self, prediction: Any) -> dict[str, Any]:
        return {"prediction": plain(prediction), "trace": self.trace()}

    def unreadable(self, error: AdapterParseError) -> dict[str, Any]:
        """Which predictor's signature it was that the reply did not fit."""
        named = self.module.named_predictors()
        name = next((name for name, predictor in named if predictor.signature.equals(error.signature)), "")
        return {
            "unreadable": {
                "predictor": name,
                "adapter": error.adapter_name,
                "reply": str(error.lm_response),
                "parsed": msgspec.to_builtins(error.parsed_result, enc_hook=str, str_keys=True),
            },
            "trace": self.trace(),
        }

    def trace(self) -> list[list[Any]]:
        """Predictors that the module makes as it goes have no name, and are left out."""
        names = {id(predictor): name for name, predictor in self.module.named_predictors()}
        return [
            [names[id(predictor)], plain(inputs), plain(outputs)]
            for predictor, inputs, outputs in dspy.settings.trace
            if id(predictor) in names
        ]


class _TracedAsynchronously(_Traced):
    async def aforward(self, **inputs: Any) -> dict[str, Any]:
        try:
            prediction = await self.module.acall(**inputs)
        except AdapterParseError as error:
            return self.unreadable(error)
        return self.answered(prediction)

    acall = aforward
