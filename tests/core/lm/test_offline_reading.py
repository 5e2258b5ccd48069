"""How the offline LM reads: prompts, passages, types, words and sums."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_services.offline_lm import sums
from dspex_services.offline_lm.evidence import best, central
from dspex_services.offline_lm.passages import Passage, passages
from dspex_services.offline_lm.prompt import read_prompt
from dspex_services.offline_lm.schema import resolve, schema_of
from dspex_services.offline_lm.words import keywords, names, sentences, stem, terms

SYSTEM = """\
Your input fields are:
1. `context` (list[str]): what to use,
over two lines
2. `question` (str):
Your output fields are:
1. `reasoning` (str):
2. `label` (Literal['a', 'b c']): one: of them
3. `scores` (list[Score]):
All interactions will be structured in the following way, with the appropriate values filled in.

[[ ## context ## ]]
{context}

[[ ## question ## ]]
{question}

[[ ## reasoning ## ]]
{reasoning}

[[ ## label ## ]]
{label}        # note: the value you produce must exactly match (no extra characters) one of: a; b c

[[ ## scores ## ]]
{scores}        # note: the value you produce must adhere to the JSON schema: \
{"type": "array", "items": {"type": "number"}}

[[ ## completed ## ]]
In adhering to this structure, your objective is:
        Judge well.
        In two lines."""
USER = """\
[[ ## context ## ]]
["one", "two"]

[[ ## question ## ]]
What about
[[ ## context ## ]]
a header of the question's own?

Respond with the corresponding output fields, starting with the field `[[ ## reasoning ## ]]`, then \
`[[ ## label ## ]]` (must be formatted as a valid Python Literal['a', 'b c']), then `[[ ## scores ## ]]` \
(must be formatted as a valid Python list[Score]), and then ending with the marker for `[[ ## completed ## ]]`."""


def messages(*turns: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in turns]


def test_a_chat_prompt() -> None:
    prompt = read_prompt(messages(("system", SYSTEM), ("user", "demo"), ("assistant", "shown"), ("user", USER)))
    assert prompt.style == "chat"
    assert prompt.instructions == "Judge well.\nIn two lines."
    assert prompt.examples == ("shown",)
    assert prompt.inputs["context"] == '["one", "two"]'
    assert prompt.inputs["question"].endswith("a header of the question's own?")
    assert [field.name for field in prompt.outputs] == ["reasoning", "label", "scores"]
    assert [field.schema for field in prompt.outputs] == [
        {"type": "string"},
        {"enum": ["a", "b c"]},
        {"type": "array", "items": {"type": "number"}},
    ]
    assert prompt.outputs[1].description == "one: of them"


def test_a_chat_prompt_is_read_from_its_tail_alone() -> None:
    prompt = read_prompt(messages(("user", USER)))
    assert [field.name for field in prompt.outputs] == ["reasoning", "label", "scores"]
    assert prompt.outputs[1].schema == {"enum": ["a", "b c"]}
    assert "question" in prompt.inputs


def test_content_in_parts_is_joined() -> None:
    prompt = read_prompt(messages(("user", [{"type": "text", "text": "Why"}, {"type": "text", "text": "so?"}])))
    assert (prompt.style, prompt.inputs) == ("plain", {"text": "Why\nso?"})


@pytest.mark.parametrize("turns", [[], [{"role": "user"}], [{"role": "system", "content": None}]])
def test_prompts_without_text(turns: list[dict[str, Any]]) -> None:
    assert read_prompt(turns).inputs == {"text": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("N/A", []),
        ("[]", []),
        ('["a b", "c"]', [("a b", None), ("c", None)]),
        ('[{"text": "t", "source": "s.md"}, {"passage": "p", "pid": 3}]', [("t", "s.md"), ("p", "3")]),
        ('{"hits": [{"text": "t", "title": "T"}]}', [("t", "T")]),
        ("«only one»", [("only one", None)]),
        ("[1] «a»\n[2] «««\n    b\n    c\n»»»", [("a", None), ("b\n    c", None)]),
        ("[x/y.md] first\nmore\n[z.md] second", [("first\nmore", "x/y.md"), ("second", "z.md")]),
        ("Title | the text", [("the text", "Title")]),
        ("one\n\n two", [("one", None), ("two", None)]),
        ("[not json", [("[not json", None)]),
    ],
)
def test_passages(text: str, expected: list[tuple[str, str | None]]) -> None:
    assert [(one.text, one.name) for one in passages(text)] == expected


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ("str", {"type": "string"}),
        ("list[int]", {"type": "array", "items": {"type": "integer"}}),
        ("dict[str, float]", {"type": "object", "additionalProperties": {"type": "number"}}),
        ("Literal[1, 'x, y']", {"enum": [1, "x, y"]}),
        ("Optional[bool]", {"anyOf": [{"type": "boolean"}, {"type": "null"}]}),
        ("Union[str, NoneType]", {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ("int | None", {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        ("Unheard[of]", {"type": "string"}),
        ("not an annotation(", {"type": "string"}),
    ],
)
def test_types(annotation: str, expected: dict[str, Any]) -> None:
    assert schema_of(annotation) == expected


def test_a_type_of_the_users_own_is_read_from_the_note() -> None:
    note = 'must adhere to the JSON schema: {"type": "object", "properties": {"x": {"$ref": "#/$defs/X"}}}'
    assert schema_of("Person", note)["type"] == "object"
    assert schema_of("Colour", "must be one of: red; green") == {"enum": ["red", "green"]}


def test_references_and_choices_are_resolved() -> None:
    root = {"$defs": {"X": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/Y"}]}, "Y": {"type": "integer"}}}
    assert resolve({"$ref": "#/$defs/X"}, root) == {"type": "integer"}
    assert resolve({"$ref": "#/$defs/Z"}, {"$defs": {"Z": {"$ref": "#/$defs/Z"}}}) == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("What is 2 + 3?", 5),
        ("What is 12 * (3 + 4)?", 84),
        ("Compute 7 divided by 2.", 3.5),
        ("What is 15% of 80?", 12),
        ("the sum of 3 and 4", 7),
        ("3 to the power of 4", 81),
        ("1,000 plus 1", 1001),
        ("9 squared", 81),
        ("-3 - -4", 1),
        ("What is 1/0?", None),
        ("9**9**9", None),
        ("Who won in 1998?", None),
        ("no numbers", None),
    ],
)
def test_sums(text: str, value: float | None) -> None:
    assert sums.solve(text) == value


def test_words_meet_in_their_stems() -> None:
    assert stem("caches") == stem("cached") == stem("caching") == stem("cache")
    assert stem("wrote") == stem("written") == stem("writes") == stem("writing")
    assert terms("How are the ack-waits used?") == ["ack", "wait"]
    assert keywords("Who wrote the NATS server, and the NATS client?") == ["wrote", "NATS", "server", "client"]
    assert names("It was written by Derek Collison. Streams came later, with JetStream.") == [
        "Derek Collison",
        "JetStream",
    ]


def test_sentences_of_markdown() -> None:
    text = "# Head\nA wrapped\nsentence. Another, e.g. this one.\n\n- item **one**\n- item two\n"
    text += "```\ncode()\n```\n| a | b |\n|---|---|"
    assert sentences(text) == ["A wrapped sentence.", "Another, e.g. this one.", "item one", "item two", "a | b"]
    assert sentences("# Only a head") == ["Only a head"]


GIVEN = [
    Passage("The lease lasts ten seconds. It is renewed by the owner."),
    Passage("Workers pull tasks. A heartbeat is sent every five seconds."),
    Passage("Unrelated prose about gardens and rain."),
]


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ("How often is a heartbeat sent?", "A heartbeat is sent every five seconds."),
        ("Who renews the lease?", "It is renewed by the owner."),
        ("What about rain?", "Unrelated prose about gardens and rain."),
    ],
)
def test_the_best_evidence_fits_the_question(question: str, sentence: str) -> None:
    assert max(best(question, GIVEN), key=lambda one: one.score).sentence == sentence


def test_no_evidence_without_a_shared_word() -> None:
    assert best("Quantum chromodynamics?", GIVEN) == []
    assert best("Anything?", []) == []


def test_central_sentences_keep_their_order() -> None:
    text = Passage("Pools run workers. Rain fell. Workers of pools pull tasks from pools. Cats sleep.")
    assert central([text], limit=2) == ["Pools run workers.", "Workers of pools pull tasks from pools."]
    assert central([]) == []
