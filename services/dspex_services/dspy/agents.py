"""Modules that act: they use tools, or write code that is run."""

from __future__ import annotations

from typing import Any

import dspy

from ..errors import InvalidInput
from ..handlers import Handlers, Step
from .options import CodeOptions, ModuleOptions, ReActOptions, RLMOptions
from .programs import Programs
from .sandbox import Sandbox
from .signatures import dspy_signature
from .tools import bus_tools

_TRAJECTORY = ("reasoning", "trajectory")


def agents(programs: Programs) -> Handlers:
    """ReAct, ReActV2, RLM, ProgramOfThought and CodeAct."""
    handlers = Handlers()

    @handlers.handler("dspy.ReAct", reads="signature", implementation="dspy", adds=_TRAJECTORY)
    async def react(options: ReActOptions, step: Step) -> dict[str, Any]:
        """Think, use tools (handlers on the bus), observe, and answer. The ``trajectory`` is among the outputs."""
        tools = [tool.for_loop() for tool in await bus_tools(options.tools, step, programs.directory)]
        module = _made(dspy.ReAct, options, tools=tools, max_iters=options.max_iters)
        return await _run(programs, module, options, step)

    @handlers.handler("dspy.ReActV2", reads="signature", implementation="dspy", adds=("history", "termination_reason"))
    async def react_v2(options: ReActOptions, step: Step) -> dict[str, Any]:
        """An agent on native function calling where the model has it; its ``history`` is among the outputs."""
        tools = [tool.for_loop() for tool in await bus_tools(options.tools, step, programs.directory)]
        module = _made(dspy.ReActV2, options, tools=tools, max_iters=options.max_iters)
        return await _run(programs, module, options, step)

    @handlers.handler("dspy.RLM", reads="signature", implementation="dspy", adds=("trajectory", "final_reasoning"))
    async def rlm(options: RLMOptions, step: Step) -> dict[str, Any]:
        """Explore inputs too long for a prompt with code that the model writes, run in the pool's sandbox."""
        sandbox = Sandbox("dspy.RLM", programs.sandbox_factory)
        tools = [tool.for_thread() for tool in await bus_tools(options.tools, step, programs.directory)]
        module = _made(
            dspy.RLM,
            options,
            tools=tools,
            max_iters=options.max_iters,
            max_llm_calls=options.max_llm_calls,
            max_output_chars=options.max_output_chars,
            sub_lm=programs.models.get(options.sub_model, None, None) if options.sub_model else None,
            interpreter_factory=sandbox,
        )
        return await _in_sandbox(programs, sandbox, module, options, step)

    @handlers.handler("dspy.ProgramOfThought", reads="signature", implementation="dspy", adds=("reasoning",))
    async def program_of_thought(options: CodeOptions, step: Step) -> dict[str, Any]:
        """Answer by a program that the model writes, run in the pool's sandbox."""
        sandbox = Sandbox("dspy.ProgramOfThought", programs.sandbox_factory)
        module = _made(dspy.ProgramOfThought, options, max_iters=options.max_iters, interpreter_factory=sandbox)
        return await _in_sandbox(programs, sandbox, module, options, step)

    @handlers.handler("dspy.CodeAct", reads="signature", implementation="dspy", adds=_TRAJECTORY)
    async def code_act(options: CodeOptions, step: Step) -> dict[str, Any]:
        """Act by code that the model writes, run in the pool's sandbox, without tools.

        DSPy would copy a tool's source into the sandbox, where there is no bus."""
        sandbox = Sandbox("dspy.CodeAct", programs.sandbox_factory)
        module = _made(dspy.CodeAct, options, tools=[], max_iters=options.max_iters, interpreter_factory=sandbox)
        return await _in_sandbox(programs, sandbox, module, options, step)

    return handlers


def _made(kind: Any, options: Any, **arguments: Any) -> Any:
    """A module with the signature of the options. DSPy's refusals name the field or tool at fault."""
    try:
        return kind(dspy_signature(*options.spelled), **arguments)
    except (ValueError, TypeError) as error:
        raise InvalidInput(str(error)) from error


async def _run(programs: Programs, module: Any, options: ModuleOptions, step: Step) -> dict[str, Any]:
    module = await programs.ready(module, options, step)
    return await programs.run(module, step.inputs, options, step, options.meant)


async def _in_sandbox(programs: Programs, sandbox: Sandbox, module: Any, options: Any, step: Step) -> dict[str, Any]:
    try:
        return await _run(programs, module, options, step)
    finally:
        sandbox.close()
