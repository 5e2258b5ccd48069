"""The offline LM's mind: a reply that is a pure function of the prompt, extracted from what the prompt gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from . import agent, caller, texts
from .fields import value_for
from .layout import render
from .material import Material
from .prompt import OutputField, Prompt, read_prompt

MODEL = "offline-extractive"


def answer(messages: Sequence[Mapping[str, Any]], response_format: Mapping[str, Any] | None = None) -> str:
    """The reply to chat ``messages``, in the layout they or OpenAI's ``response_format`` ask for."""
    prompt = _shaped(read_prompt(messages), response_format or {})
    material = Material(prompt)
    if not prompt.outputs:
        return texts.answer(material)
    if agent.is_turn(prompt):
        return render(prompt.style, prompt.outputs, agent.turn(material))
    if caller.is_turn(prompt):
        return render(prompt.style, prompt.outputs, caller.turn(prompt, messages))
    values = {field.name: value_for(field, material) for field in prompt.outputs}
    return render("json" if prompt.style == "plain" else prompt.style, prompt.outputs, values)


def _shaped(prompt: Prompt, response_format: Mapping[str, Any]) -> Prompt:
    """A plain prompt takes its fields from the response format; an adapter's prompt has named them itself."""
    if prompt.outputs or response_format.get("type") not in ("json_schema", "json_object"):
        return prompt
    schema = response_format.get("json_schema", {}).get("schema", {})
    shared = {"$defs": schema.get("$defs", {})}
    parts = schema.get("properties") or {"answer": {"type": "string"}}
    return replace(prompt, outputs=tuple(OutputField(name, {**part, **shared}) for name, part in parts.items()))
