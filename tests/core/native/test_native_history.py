"""Turns of a conversation in our prompts, against DSPy's own History."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_bus.signatures import parse_signature
from dspex_services.errors import InvalidInput
from dspex_services.native.adapters import chat_messages, json_messages

dspy = pytest.importorskip("dspy")

from dspex_services.dspy.remembering import with_history  # noqa: E402
from dspex_services.dspy.signatures import dspy_signature  # noqa: E402

TURNS: list[list[dict[str, Any]]] = [
    [],
    [{"question": "Who?", "answer": "Ada"}],
    [{"question": "Who?", "answer": "Ada", "score": 3, "tags": ["a", "b"]}, {"question": "And?", "answer": ""}],
    [{"answer": "no question"}, {"question": "", "context": ["x"], "answer": "two\nlines", "other": 1}],
]
SIGNATURES = ["question -> answer", "context: list[str], question -> answer, score: int, tags: list[str]"]
DEMOS: list[list[dict[str, Any]]] = [
    [],
    [{"question": "q", "context": ["c"], "answer": "a", "score": 1, "tags": []}, {"question": "q", "answer": "a"}],
]


@pytest.mark.parametrize("demos", DEMOS)
@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("text", SIGNATURES)
def test_the_messages_are_dspy_s(text: str, turns: list[dict[str, Any]], demos: list[dict[str, Any]]) -> None:
    inputs = {"question": "Why?", "context": ["one", "two"]}
    signature = parse_signature(text, "Answer it.")
    values = {name: inputs[name] for name in signature.input_names}
    predictor = dspy.Predict(dspy_signature(text, "Answer it."))
    given = with_history(predictor, values, turns)
    for adapter, ours in [(dspy.ChatAdapter(), chat_messages), (dspy.JSONAdapter(), json_messages)]:
        theirs = adapter.format(predictor.signature, [dspy.Example(**demo) for demo in demos], dict(given))
        assert ours(signature, values, demos, turns) == theirs


def test_no_turns_is_not_no_conversation() -> None:
    signature = parse_signature("question -> answer")
    assert chat_messages(signature, {"question": "?"}, [], []) != chat_messages(signature, {"question": "?"})


def test_a_field_of_that_name_is_refused() -> None:
    signature = parse_signature("history, question -> answer")
    with pytest.raises(InvalidInput, match="history"):
        chat_messages(signature, {"history": "", "question": ""}, [], [])


def test_modules_that_have_no_place_for_it() -> None:
    class Own(dspy.Module):  # type: ignore[misc]
        def forward(self, question: str) -> Any: ...

    class Remembers(dspy.Module):  # type: ignore[misc]
        def forward(self, question: str, history: Any = None) -> Any: ...

    with pytest.raises(InvalidInput, match="cannot remember"):
        with_history(Own(), {"question": ""}, [])
    assert with_history(Remembers(), {"question": ""}, TURNS[1])["history"] == dspy.History(messages=TURNS[1])
    with pytest.raises(InvalidInput, match="history"):
        with_history(Remembers(), {"question": "", "history": []}, [])
