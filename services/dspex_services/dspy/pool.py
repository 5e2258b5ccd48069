"""What a DSPy pool offers, by name."""

from __future__ import annotations

from typing import Any

import dspy
import msgspec

from dspex_bus.wire import HandlerInfo

from ..handlers import Handlers, Step
from .modules import fields, import_module
from .programs import ModelOptions, ModuleOptions, Programs
from .signatures import dspy_signature
from .tools import ToolOptions, bus_tool


class ReActOptions(ModuleOptions, frozen=True, kw_only=True):
    """``tools`` are handlers by name, or with a description and constants of their own."""

    tools: tuple[str | ToolOptions, ...] = ()
    max_iters: int = 8


def dspy_handlers(programs: Programs) -> Handlers:
    """``dspy.Predict``, ``dspy.ChainOfThought`` and ``dspy.ReAct``."""
    handlers = Handlers()

    @handlers.handler("dspy.Predict", reads="signature", implementation="dspy")
    async def predict(options: ModuleOptions, step: Step) -> dict[str, Any]:
        """Ask the model for the signature's outputs."""
        return await _run(programs, programs.copy("Predict", options), step, options)

    @handlers.handler("dspy.ChainOfThought", reads="signature", implementation="dspy", adds=("reasoning",))
    async def chain_of_thought(options: ModuleOptions, step: Step) -> dict[str, Any]:
        """Reason first, then answer; the outputs have a ``reasoning`` field besides the signature's."""
        return await _run(programs, programs.copy("ChainOfThought", options), step, options)

    @handlers.handler("dspy.ReAct", reads="signature", implementation="dspy", adds=("reasoning", "trajectory"))
    async def react(options: ReActOptions, step: Step) -> dict[str, Any]:
        """Think, use tools (handlers on the bus), observe, and answer. The ``trajectory`` is among the outputs."""
        tools = [bus_tool(tool, step) for tool in options.tools]
        signature = dspy_signature(options.signature, options.instructions)
        return await _run(programs, dspy.ReAct(signature, tools, max_iters=options.max_iters), step, options)

    return handlers


def user_module(programs: Programs, path: str) -> Handlers:
    """A user's module at ``package.module:Class`` under its dotted name. It reads what ``forward`` takes."""
    made = import_module(path)
    required, optional = fields(made)
    prototype = made()
    handlers = Handlers()

    async def run(values: dict[str, Any], step: Step) -> dict[str, Any]:
        names = ModelOptions.__struct_fields__
        options = msgspec.convert({name: values.pop(name) for name in names if name in values}, ModelOptions)
        outputs, usage = await programs.run(prototype.deepcopy(), values, options)
        step.record_usage(usage)
        return outputs

    summary = (made.__doc__ or f"The DSPy module {path}.").strip().partition("\n")[0]
    handlers.add(
        run,
        HandlerInfo(
            name=path.replace(":", "."),
            implementation="dspy",
            required=required,
            optional=(*optional, *ModelOptions.__struct_fields__),
            summary=summary,
        ),
    )
    return handlers


async def _run(programs: Programs, module: Any, step: Step, options: ModuleOptions) -> dict[str, Any]:
    outputs, usage = await programs.run(module, dict(step.inputs), options)
    step.record_usage(usage)
    return outputs
