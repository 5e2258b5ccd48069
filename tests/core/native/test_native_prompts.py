"""Prompts and replies, by example; the comparison with DSPy over generated cases is in test_native_against_dspy."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import pytest

from dspex_bus.signatures import parse_signature
from dspex_bus.wire import error_from, error_info
from dspex_services.native.adapters import chat_messages, json_messages, parse_chat_reply, parse_json_reply
from dspex_services.native.errors import ReplyError, UnsupportedNatively


def test_a_chat_prompt_in_full() -> None:
    signature = parse_signature("question 'what to answer' -> score: int, label: Literal['a', 'b']", "Judge it.")
    system, user = chat_messages(signature, {"question": "Why?"})
    assert system == {
        "role": "system",
        "content": "Your input fields are:\n"
        "1. `question` (str): what to answer\n"
        "Your output fields are:\n"
        "1. `score` (int): \n"
        "2. `label` (Literal['a', 'b']):\n"
        "All interactions will be structured in the following way, with the appropriate values filled in.\n\n"
        "[[ ## question ## ]]\n{question}\n\n"
        "[[ ## score ## ]]\n{score}        # note: the value you produce must be a single int value\n\n"
        "[[ ## label ## ]]\n{label}        # note: the value you produce must exactly match (no extra characters) "
        "one of: a; b\n\n"
        "[[ ## completed ## ]]\n"
        "In adhering to this structure, your objective is: \n        Judge it.",
    }
    assert user["content"] == (
        "[[ ## question ## ]]\nWhy?\n\n"
        "Respond with the corresponding output fields, starting with the field `[[ ## score ## ]]` (must be formatted "
        "as a valid Python int), then `[[ ## label ## ]]` (must be formatted as a valid Python Literal['a', 'b']), "
        "and then ending with the marker for `[[ ## completed ## ]]`."
    )


def test_demos_incomplete_ones_first_and_useless_ones_not_at_all() -> None:
    signature = parse_signature("q -> a, b")
    demos: list[dict[str, Any]] = [{"q": "1", "a": "x", "b": "y"}, {"q": "2", "a": "z"}, {"q": "3"}, {"a": "w"}]
    messages = chat_messages(signature, {"q": "now"}, demos)
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert "though some input or output fields are not supplied" in messages[1]["content"]
    assert messages[2]["content"].endswith(
        "[[ ## b ## ]]\nNot supplied for this particular example.\n\n[[ ## completed ## ]]\n"
    )
    assert messages[4]["content"] == "[[ ## a ## ]]\nx\n\n[[ ## b ## ]]\ny\n\n[[ ## completed ## ]]\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (["one", "two"], "[1] «one»\n[2] «two»"),
        (["one"], "«one»"),
        ([], "N/A"),
        (["a\nb"], "«««\n    a\n    b\n»»»"),
        ([{"text": "passage", "score": 0.5}], '«{"text": "passage", "score": 0.5}»'),  # DSPy raises TypeError here
        ({"k": None}, '{"k": null}'),
        ({None: 1}, '{"None": 1}'),
        ({"x": float("nan")}, '{"x": null}'),
        (False, "False"),
        (0, "0"),
        ("", ""),
        (object, "<class 'object'>"),
    ],
)
def test_values_of_a_text_field(value: Any, shown: str) -> None:
    messages = chat_messages(parse_signature("context -> answer"), {"context": value})
    assert messages[1]["content"].split("\n\nRespond with")[0] == f"[[ ## context ## ]]\n{shown}"


class Passage(msgspec.Struct):
    text: str
    score: float


def test_structs_are_shown_as_json() -> None:
    messages = chat_messages(parse_signature("context: list -> answer"), {"context": [Passage("a", 0.5)]})
    assert '[{"text": "a", "score": 0.5}]' in messages[1]["content"]


def test_a_signature_only_dspy_can_handle_is_refused_with_the_types() -> None:
    signature = parse_signature("image: dspy.Image -> caption")
    for call in (
        lambda: chat_messages(signature, {}),
        lambda: json_messages(signature, {}),
        lambda: parse_chat_reply(signature, ""),
        lambda: parse_json_reply(signature, "{}"),
    ):
        with pytest.raises(UnsupportedNatively) as caught:
            call()
        assert caught.value.types == ("dspy.Image",)


def test_a_malformed_reply_names_what_is_missing_and_what_is_wrong() -> None:
    signature = parse_signature("q -> a, n: int, o: str | None, m: list[int]")
    text = "Sure.\n[[ ## n ## ]]\nmany\n\n[[ ## completed ## ]]"
    with pytest.raises(ReplyError) as caught:
        parse_chat_reply(signature, text)
    error = caught.value
    assert (error.raw, error.missing, error.retryable) == (text, ("a", "m"), True)
    assert error.faults == {"n": "expected int, got 'many' (str)"}
    back = error_from(error_info(error))
    assert isinstance(back, ReplyError)
    assert (back.raw, back.missing, back.faults) == (error.raw, error.missing, error.faults)


@pytest.mark.parametrize("text", ["", "no json", "[1, 2]", '"text"', "{", "}{"])
def test_a_reply_without_an_object_is_missing_everything(text: str) -> None:
    with pytest.raises(ReplyError) as caught:
        parse_json_reply(parse_signature("q -> a, b: int"), text)
    assert caught.value.raw == text
    assert caught.value.missing in (("a", "b"), ("a",), ("b",)) or caught.value.faults


def test_an_indented_header_is_a_header() -> None:
    """DSPy takes the tail of an indented header for a part of the value; here it is not."""
    assert parse_chat_reply(parse_signature("q -> a"), "  [[ ## a ## ]] yes\nreally") == {"a": "yes\nreally"}


def test_the_first_of_two_equal_sections_counts() -> None:
    text = "[[ ## a ## ]]\n1\n[[ ## a ## ]]\n2\n[[ ## other ## ]]\n3"
    assert parse_chat_reply(parse_signature("q -> a: int"), text) == {"a": 1}


def test_a_huge_reply_is_kept_in_part() -> None:
    with pytest.raises(ReplyError) as caught:
        parse_chat_reply(parse_signature("q -> a"), "x" * 1_000_000)
    assert len(caught.value.raw) == 20_000
    assert len(caught.value.message) < 1_000


def test_deep_and_hostile_replies_end_in_an_error() -> None:
    signature = parse_signature("q -> a: list[int]")
    for body in ("[" * 100_000, "(" * 10_000, "{" * 5_000, "-" * 10_000, "9" * 5_000):
        with pytest.raises(ReplyError):
            parse_chat_reply(signature, f"[[ ## a ## ]]\n{body}")


def test_neither_dspy_nor_pydantic_is_imported() -> None:
    script = (
        "import sys; from dspex_bus.signatures import parse_signature as p\n"
        "from dspex_services.native.adapters import *\n"
        "s = p('q -> a: list[int]'); chat_messages(s, {'q': 'x'}); parse_chat_reply(s, '[[ ## a ## ]]\\n[1,]')\n"
        "assert not {'dspy', 'pydantic', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
