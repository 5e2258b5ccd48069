"""DSPy's ReAct turn: call the tool that fits the question once, then finish; try another when it failed."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

from . import sums, texts
from .material import Material
from .prompt import Prompt
from .words import names, terms

TURN = ("next_thought", "next_tool_name", "next_tool_args")
FINISH = "finish"

_TOOL = re.compile(
    r"^\(\d+\) (\w+), whose description is <desc>(.*?)</desc>\. It takes arguments (\{.*\})\.$", re.M | re.S
)
_CALLED = re.compile(r"^\[\[ ## tool_name_\d+ ## \]\]\n(\w+)", re.MULTILINE)
_FAILED = re.compile(r"^\[\[ ## observation_(\d+) ## \]\]\nExecution error", re.MULTILINE)
_SUM = re.compile(r"express|equation|formula|calc|math|sum")
_WHOLE_QUESTION = re.compile(r"question|prompt|task|request|message|text|input")
_QUERY = re.compile(r"query|search|keyword|term|^q$")


@dataclass(frozen=True)
class Tool:
    name: str
    description: str
    arguments: dict[str, dict[str, Any]]


def is_turn(prompt: Prompt) -> bool:
    return {field.name for field in prompt.outputs} == set(TURN)


def turn(material: Material) -> dict[str, Any]:
    """The three fields of the next turn."""
    trajectory = material.prompt.inputs.get("trajectory", "")
    called = _CALLED.findall(trajectory)
    untried = [tool for tool in _tools(material.prompt.instructions) if tool.name not in (*called, FINISH)]
    if untried and len(_FAILED.findall(trajectory)) == len(called):
        tool = fitting(untried, material)
        arguments = arguments_for(tool, material)
        return dict(zip(TURN, (f"I call {tool.name} to find out about this.", tool.name, arguments), strict=True))
    thought = "The tools have answered; the result can be read off." if called else "No tool is left to call."
    return dict(zip(TURN, (thought, FINISH, {}), strict=True))


def fitting(tools: list[Tool], material: Material) -> Tool:
    """The tool whose name and description share most with the question."""
    return max(tools, key=lambda one: _fit(one, material))


def arguments_for(tool: Tool, material: Material) -> dict[str, Any]:
    """A value for each argument that has no default; where all have one, for what is searched for."""
    wanted = {name: kind for name, kind in tool.arguments.items() if "default" not in kind}
    if not wanted:
        wanted = dict([one for one in tool.arguments.items() if _QUERY.search(one[0])][:1])
    return {name: _argument(name, kind, material) for name, kind in wanted.items()}


def _tools(instructions: str) -> list[Tool]:
    found = []
    for piece in re.split(r"\n(?=\(\d+\) )", instructions):
        match = _TOOL.match(piece.partition("\nWhen providing")[0].strip())
        if match:
            found.append(Tool(match.group(1), match.group(2), arguments_in(match.group(3))))
    return found


def arguments_in(text: str) -> dict[str, dict[str, Any]]:
    """The arguments' schemas from their printed form; none where it is no mapping."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {}
    return {name: kind if isinstance(kind, dict) else {} for name, kind in value.items()}


def _fit(tool: Tool, material: Material) -> float:
    wanted = set(terms(material.question))
    about = set(terms(f"{tool.name} {tool.description} {' '.join(tool.arguments)}".replace("_", " ")))
    does_sums = bool(_SUM.search(f"{tool.name} {tool.description} {' '.join(tool.arguments)}".lower()))
    return (
        len(wanted & about)
        + (10 if does_sums and sums.expression(material.question) else 0)
        - (0.5 if does_sums else 0)
    )


def _argument(name: str, kind: dict[str, Any], material: Material) -> Any:
    """A value for a required argument, from the question."""
    if options := kind.get("enum"):
        return next((option for option in options if str(option).lower() in material.question.lower()), options[0])
    match kind.get("type"):
        case "integer" | "number":
            found = re.findall(r"-?\d+(?:\.\d+)?", material.question)
            number = float(found[0]) if found else 1.0
            return int(number) if kind["type"] == "integer" else number
        case "boolean":
            return True
        case "array":
            return texts.queries(material)
        case "object":
            return {}
    return _text_argument(name.lower(), material)


def _text_argument(name: str, material: Material) -> str:
    if _SUM.search(name):
        return sums.expression(material.question) or material.question
    if _QUERY.search(name):
        return texts.query(material)
    if _WHOLE_QUESTION.search(name):
        return material.question
    return next(iter(names(material.question)), None) or texts.query(material)
