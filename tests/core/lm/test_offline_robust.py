"""Whatever the prompt, the offline LM answers: it never fails, and it keeps to the layout that was asked for."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from dspex_services.offline_lm import answer

MARKS = [
    "[[ ## question ## ]]\n",
    "[[ ## trajectory ## ]]\n",
    "[[ ## thought_0 ## ]]\n",
    "[[ ## tool_name_0 ## ]]\n",
    "«««\n",
    "\n»»»",
    "[1] «",
    "[a.md] ",
    "```\n",
    "# ",
    "| a | b |\n",
    "{",
    "}",
    '["',
    '"]',
    "\n\n",
    "Why? ",
    "2 * (3",
    " - 4)",
    "**",
    "<answer>\n",
    "Your input fields are:\n1. `question` (str):\n",
    "Your output fields are:\n1. `a` (list[X]): \n",
    "Respond with the corresponding output fields, starting with the field `[[ ## answer ## ]]`, then `[[ ## n ## ]]` "
    "(must be formatted as a valid Python int).",
    "Respond with a JSON object in the following order of fields: `a`, `b`.",
    "(1) f, whose description is <desc>x</desc>. It takes arguments {'q': {'type': 'integer'}}.\n",
    "Ünïcödé 東京 ",
]
TEXT = st.lists(st.sampled_from(MARKS) | st.text("aZ9 .?-_\n\t«»é東[]{}<>#*`|\"'", max_size=12), max_size=12).map(
    "".join
)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": TEXT}), max_size=4
)
SCHEMAS = st.recursive(
    st.sampled_from([{"type": kind} for kind in ("string", "integer", "number", "boolean", "null", "odd")] + [{}]),
    lambda inner: st.one_of(
        inner.map(lambda item: {"type": "array", "items": item}),
        st.dictionaries(st.sampled_from(["answer", "queries", "citations", "score"]), inner).map(
            lambda parts: {"type": "object", "properties": parts}
        ),
        inner.map(lambda one: {"anyOf": [{"type": "null"}, one]}),
        st.lists(st.integers() | st.text(), min_size=1).map(lambda options: {"enum": options}),
    ),
    max_leaves=6,
)


@given(MESSAGES)
def test_any_messages_get_text(messages: list[dict[str, Any]]) -> None:
    assert isinstance(answer(messages), str)


@given(TEXT, TEXT, SCHEMAS)
def test_any_schema_gets_json_of_its_type(instructions: str, text: str, schema: dict[str, Any]) -> None:
    whole = {"type": "object", "properties": {"value": schema}}
    messages = [{"role": "system", "content": instructions}, {"role": "user", "content": f"{text} end"}]
    assume("Respond with" not in text)  # an adapter's prompt names its fields itself
    found = json.loads(answer(messages, {"type": "json_schema", "json_schema": {"schema": whole}}))
    assert set(found) == {"value"}
    kinds = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}
    assert isinstance(found["value"], kinds.get(schema.get("type", ""), object))


@given(TEXT, TEXT)
def test_every_section_that_was_asked_for_is_there_once(context: str, question: str) -> None:
    tail = "Respond with the corresponding output fields, starting with the field `[[ ## answer ## ]]`, then "
    tail += "`[[ ## score ## ]]` (must be formatted as a valid Python float)."
    user = f"[[ ## context ## ]]\n{context}\n\n[[ ## question ## ]]\n{question}\n\n{tail}"
    reply = answer([{"role": "user", "content": user}])
    sections = [line for line in reply.splitlines() if line.startswith("[[ ## ")]
    assert sections == ["[[ ## answer ## ]]", "[[ ## score ## ]]", "[[ ## completed ## ]]"]
    float(reply.splitlines()[-3])
