"""What a DSPy pool offers, by name."""

from __future__ import annotations

from typing import Any

import msgspec

from dspex_bus.wire import HandlerInfo

from ..handlers import Handlers, Step
from .agents import agents
from .assembling import assembled
from .ensembles import ensembles
from .forwarding import forwarding
from .loading import apply
from .modules import fields, import_object, is_module
from .options import PredictOptions, ProgramOptions, UserOptions
from .programs import Programs, convert, options_of, signature_of
from .rag import rag
from .retrievers import retrievers
from .scoring import scoring
from .values import plain


def dspy_handlers(programs: Programs) -> Handlers:
    """DSPy's own modules and retrievers."""
    handlers = Handlers()
    for make in (predictors, agents, ensembles, retrievers, rag, scoring, forwarding):
        handlers.include(make(programs))
    programs.models.keep_for(handlers)
    handlers.with_programs(programs.loader.program_of)
    return handlers


def predictors(programs: Programs) -> Handlers:
    """``dspy.Predict`` and ``dspy.ChainOfThought``, and programs made of either."""
    handlers = Handlers()

    @handlers.handler("dspy.Predict", reads="signature", implementation="dspy", carries=True)
    async def predict(options: PredictOptions, step: Step) -> dict[str, Any]:
        """Ask the model for the signature's outputs."""
        return await _predicted(programs, "Predict", options, step)

    @handlers.handler(
        "dspy.ChainOfThought", reads="signature", implementation="dspy", adds=("reasoning",), carries=True
    )
    async def chain_of_thought(options: PredictOptions, step: Step) -> dict[str, Any]:
        """Reason first, then answer; the outputs have a ``reasoning`` field besides the signature's."""
        return await _predicted(programs, "ChainOfThought", options, step)

    @handlers.handler("dspy.Program", reads="any", implementation="dspy")
    async def program(_: dict[str, Any], step: Step) -> dict[str, Any]:
        """A stored program as it was made: its own module, signature and state. Reads what its signature needs."""
        options = convert(step.options, ProgramOptions)
        loaded = await programs.loader.load(step.bus, options.program)
        module = await assembled(programs, step.bus, loaded.origin)
        apply(module, loaded.state, programs.models)
        step.program = loaded.digest
        inputs = _needed(module, step.inputs)
        return await programs.run(module, inputs, options, step, programs.signature_of(loaded.origin))

    return handlers


def _needed(module: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Of the whole context what the module takes."""
    module = getattr(module, "like", module)
    signature = signature_of(module)
    names = tuple(signature.input_fields) if signature is not None else sum(fields(module), ())
    return {name: values[name] for name in names if name in values}


async def _predicted(programs: Programs, kind: str, options: PredictOptions, step: Step) -> dict[str, Any]:
    if options.n > 1:
        options = msgspec.structs.replace(options, lm={**options.lm, "n": options.n})
    module = await programs.ready(programs.copy(kind, options), options, step)
    prediction = await programs.predict(module, step.inputs, options, step, options.meant)
    outputs = plain(prediction)
    if options.n > 1:
        outputs["completions"] = [plain(dict(completion)) for completion in prediction.completions]
    return outputs


def user_module(programs: Programs, path: str) -> Handlers:
    """A user's module at ``package.module:Class`` under its dotted name, reading what ``forward`` takes; or a function
    there, for metrics to name."""
    found = import_object(path)
    handlers = Handlers()
    if not is_module(found):
        programs.functions[path] = found
        return handlers
    required, optional = fields(found)
    prototype = found()
    programs.prototypes[path] = prototype
    own = {*required, *optional}  # what the module takes itself is its own, whatever it is called

    async def run(values: dict[str, Any], step: Step) -> dict[str, Any]:
        kept = {name: values.pop(name) for name in own if name in values}
        options = options_of(UserOptions, values)
        values |= kept
        module = await programs.ready(prototype.deepcopy(), options, step)
        return await programs.run(module, values, options, step)

    summary = (found.__doc__ or f"The DSPy module {path}.").strip().partition("\n")[0]
    handlers.add(
        run,
        HandlerInfo(
            name=path.replace(":", "."),
            implementation="dspy",
            required=required,
            optional=(*optional, *(name for name in UserOptions.__struct_fields__ if name not in own)),
            summary=summary,
        ),
    )
    return handlers
