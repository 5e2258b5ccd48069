"""DSPy's ReActV2 turn: the conversation holds the calls made so far; one that fits, then ``submit``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from . import agent
from .agent import Tool
from .fields import value_for
from .material import Material
from .prompt import OutputField, Prompt, sections_of

TURN = ("next_thought", "tool_calls")
SUBMIT = "submit"

_TOOL = re.compile(r"^(\w+), whose description is <desc>(.*?)</desc>\. It takes arguments (\{.*\})\.$", re.S)
_APART = ("history", "tools", "tool_call_results")


def is_turn(prompt: Prompt) -> bool:
    return {field.name for field in prompt.outputs} == set(TURN)


def turn(prompt: Prompt, messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The two fields of the next turn."""
    asked: dict[str, str] = {}
    for sections in sections_of(messages):
        asked |= {name: text for name, text in sections.items() if name not in _APART}
    results = _results(messages)
    told = [str(result["value"]) for result in results if not result["is_error"]]
    material = Material(replace(prompt, inputs={**asked, "observations": "\n\n".join(told)}))
    tools = _tools(prompt.inputs.get("tools", ""))
    called = {result["name"] for result in results}
    untried = [tool for tool in tools if tool.name not in (*called, SUBMIT)]
    if not told and untried:
        tool = agent.fitting(untried, material)
        return _call(f"I call {tool.name} to find out about this.", tool.name, agent.arguments_for(tool, material))
    submit = next((tool for tool in tools if tool.name == SUBMIT), Tool(SUBMIT, "", {}))
    fields = (OutputField(name, schema) for name, schema in submit.arguments.items())
    values = {field.name: value_for(field, material) for field in fields}
    return _call("The tools have answered; the result can be read off.", SUBMIT, values)


def _call(thought: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return dict(zip(TURN, (thought, {"tool_calls": [{"name": name, "args": arguments}]}), strict=True))


def _results(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for sections in sections_of(messages):
        if text := sections.get("tool_call_results"):
            found += json.loads(text)["tool_call_results"]
    return found


def _tools(text: str) -> list[Tool]:
    try:
        told = json.loads(text)
    except ValueError:
        return []
    matches = [match for line in told if (match := _TOOL.match(str(line)))]
    return [Tool(match.group(1), match.group(2), agent.arguments_in(match.group(3))) for match in matches]
