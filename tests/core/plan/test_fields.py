"""What is known of the context before a run: fields that are missing, renamed, written twice."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dspex_bus.errors import InvalidPipeline
from dspex_bus.wire import HandlerInfo

from .building import PREDICT, catalog, compiled, refused, task

SPLIT: dict[str, Any] = {"native": "split"}
SEARCH: dict[str, Any] = {"native": "search", "with": {"folder": "docs"}}
TEMPLATE: dict[str, Any] = {"native": "template", "with": {"template": "{{ text }}"}}
ANYTHING: dict[str, Any] = {"native": "anything"}


def predict(signature: Any, **more: Any) -> dict[str, Any]:
    return {"native": "predict", "with": {"signature": signature}, **more}


MISSING: dict[str, tuple[list[dict[str, Any]], str, str]] = {
    "of the input": ([SEARCH], "steps[0]", "query"),
    "from a source that is not there": ([{**SPLIT, "inputs": {"text": "body.text"}}], "steps[0]", "body"),
    "an optional one from a source that is not there": (
        [{**SPLIT, "inputs": {"by": "separator"}}],
        "steps[0]",
        "separator",
    ),
    "of a signature": ([predict("question -> answer")], "steps[0]", "question"),
    "an optional one of a signature from a source that is not there": (
        [predict("text, hint: Optional[str] -> answer", inputs={"hint": "tip"})],
        "steps[0]",
        "tip",
    ),
    "of a handler that reads anything": ([{**TEMPLATE, "inputs": {"body": "article.body"}}], "steps[0]", "article"),
    "renamed away": (
        [{**SPLIT, "outputs": {"parts": "pieces"}}, {**SEARCH, "inputs": {"query": "parts"}}],
        "steps[1]",
        "parts",
    ),
    "kept under save_as": (
        [{**SPLIT, "save_as": "split"}, {**SEARCH, "inputs": {"query": "parts"}}],
        "steps[1]",
        "parts",
    ),
    "written by a later step": ([{**SEARCH, "inputs": {"query": "parts"}}, SPLIT], "steps[0]", "parts"),
    "written by another branch": (
        [{"parallel": [SPLIT, {**SEARCH, "inputs": {"query": "parts"}}]}],
        "steps[0].parallel[1]",
        "parts",
    ),
    "in a sequence in a branch": (
        [{"parallel": [{"sequence": [SPLIT, {**SEARCH, "inputs": {"query": "body"}}]}]}],
        "steps[0].parallel[0].sequence[1]",
        "body",
    ),
    "kept by a parallel's save_as": (
        [{"parallel": [SPLIT], "save_as": "found"}, {**SEARCH, "inputs": {"query": "parts"}}],
        "steps[1]",
        "parts",
    ),
    "written by no branch of a collecting parallel": (
        [{"parallel": [SPLIT], "on_error": "collect"}, {**SEARCH, "inputs": {"query": "body"}}],
        "steps[1]",
        "body",
    ),
}


@pytest.mark.parametrize(("steps", "path", "field"), MISSING.values(), ids=MISSING.keys())
def test_missing_field(steps: list[dict[str, Any]], path: str, field: str) -> None:
    error = refused(*steps)
    assert isinstance(error, InvalidPipeline)
    assert (error.code, error.path, error.details["field"]) == ("missing_field", path, field)
    assert "text" in error.details["known"]


MISSING |= {
    "that a map goes through": ([{"map": "parts", "do": [SPLIT]}], "steps[0]", "parts"),
    "in a map": ([{"map": "text", "do": [SEARCH]}], "steps[0].do[0]", "query"),
    "kept by a map's save_as": (
        [
            {"map": "text", "do": [SPLIT], "save_as": "found"},
            {**SEARCH, "inputs": {"query": "parts"}},
        ],
        "steps[1]",
        "parts",
    ),
    "a map's item after it": (
        [{"map": "text", "item": "line", "do": [SPLIT]}, {**SEARCH, "inputs": {"query": "line"}}],
        "steps[1]",
        "line",
    ),
    "of a condition": ([{"branch": [{"when": "score > 1", "do": [SPLIT]}]}], "steps[0].branch[0].when", "score"),
    "in a case": ([{"branch": [{"when": "true", "do": [SEARCH]}]}], "steps[0].branch[0].do[0]", "query"),
    "in the other case": (
        [{"branch": [{"when": "true", "do": [SPLIT]}], "otherwise": [SEARCH]}],
        "steps[0].otherwise[0]",
        "query",
    ),
    "of a loop's condition": ([{"loop": [SPLIT], "until": "score > 1"}], "steps[0].until", "score"),
    "in a loop's first round": (
        [{"loop": [{**SEARCH, "inputs": {"query": "parts"}}, SPLIT], "until": "true"}],
        "steps[0].loop[0]",
        "parts",
    ),
    "written by no sleep": ([{"sleep_s": 1}, SEARCH], "steps[1]", "query"),
    "kept by a wait's save_as": ([{"wait": "go", "save_as": "said"}, SEARCH], "steps[1]", "query"),
}


THERE: dict[str, list[dict[str, Any]]] = {
    "of the input": [SPLIT],
    "a path into the input": [{**SPLIT, "inputs": {"text": "text.body.0"}}],
    "a constant": [{"native": "split", "with": {"text": "a,b"}}],
    "a falsy constant": [{"native": "split", "with": {"text": ""}}],
    "of a step before": [SPLIT, {**SEARCH, "inputs": {"query": "parts.0"}}],
    "under its new name": [{**SPLIT, "outputs": {"parts": "pieces"}}, {**SEARCH, "inputs": {"query": "pieces"}}],
    "in a step's save_as": [{**SPLIT, "save_as": "split"}, {**SEARCH, "inputs": {"query": "split.parts.0"}}],
    "of a branch": [{"parallel": [SPLIT]}, {**SEARCH, "inputs": {"query": "parts"}}],
    "of a branch that may fail": [
        {"parallel": [SPLIT], "on_error": "collect"},
        {**SEARCH, "inputs": {"query": "parts"}},
    ],
    "in a parallel's save_as": [{"parallel": [SPLIT], "save_as": "found"}, {**SEARCH, "inputs": {"query": "found.0"}}],
    "of a sequence in a branch": [{"parallel": [{"sequence": [SPLIT]}]}, {**SEARCH, "inputs": {"query": "parts"}}],
    "of a step that may write anything": [ANYTHING, SEARCH],
    "of a branch that may write anything": [{"parallel": [ANYTHING, SPLIT]}, SEARCH],
    "of a sequence that may write anything": [{"sequence": [ANYTHING, SPLIT]}, SEARCH],
    "of a signature": [predict("text -> answer: str, score: float"), {**SEARCH, "inputs": {"query": "answer"}}],
    "a map's item": [{"map": "text", "item": "query", "do": [SEARCH]}],
    "of a map": [{"map": "text", "do": [SPLIT]}, {**SEARCH, "inputs": {"query": "parts.0"}}],
    "of one case": [{"branch": [{"when": "size(text) > 0", "do": [SPLIT]}]}, {**SEARCH, "inputs": {"query": "parts"}}],
    "of the other case": [
        {"branch": [{"when": "true", "do": [TEMPLATE]}], "otherwise": [SPLIT]},
        {**SEARCH, "inputs": {"query": "parts"}},
    ],
    "that a condition binds": [{"branch": [{"when": "text.exists(word, word == 'a')", "do": [SPLIT]}]}],
    "of a loop, in its condition": [{"loop": [SPLIT], "until": "count > 1"}],
    "of a loop": [{"loop": [SPLIT], "until": "true"}, {**SEARCH, "inputs": {"query": "parts"}}],
    "of a signal": [{"wait": "go"}, SEARCH],
    "an optional one of a signature": [predict("text, hint: Optional[str] -> answer")],
    "what comes besides a signature": [
        {"native": "chain_of_thought", "with": {"signature": "text -> answer"}},
        {**SEARCH, "inputs": {"query": "reasoning"}},
    ],
}


@pytest.mark.parametrize("steps", THERE.values(), ids=THERE.keys())
def test_field_is_there(steps: list[dict[str, Any]]) -> None:
    compiled(*steps)


def test_without_known_input_nothing_is_missing() -> None:
    compiled(SEARCH, {**SPLIT, "inputs": {"text": "body"}}, known=None, output=["whatever"])


NAMES: dict[str, tuple[dict[str, Any], str, str]] = {
    "a constant": ({"native": "split", "with": {"txet": "a"}}, "steps[0].with.txet", "by, limit, text"),
    "a constant besides a signature": (
        {"native": "predict", "with": {"signature": "text -> a", "temprature": 1}},
        "steps[0].with.temprature",
        "instructions, model, signature",
    ),
    "an input": ({**SPLIT, "inputs": {"txet": "text"}}, "steps[0].inputs.txet", "by, limit, text"),
    "an input of a signature": (
        predict("text -> answer", inputs={"question": "text"}),
        "steps[0].inputs.question",
        "there are: text",
    ),
    "an output": ({**SPLIT, "outputs": {"part": "piece"}}, "steps[0].outputs.part", "count, parts"),
    "an output of a signature": (
        predict("text -> answer", outputs={"text": "x"}),
        "steps[0].outputs.text",
        "there are: answer",
    ),
}


@pytest.mark.parametrize(("step", "path", "known"), NAMES.values(), ids=NAMES.keys())
def test_unknown_name(step: dict[str, Any], path: str, known: str) -> None:
    error = refused(step)
    assert isinstance(error, InvalidPipeline)
    assert (error.code, error.path) == ("invalid_pipeline", path)
    assert known in error.message


def test_names_of_a_handler_that_takes_anything_are_free() -> None:
    compiled({**ANYTHING, "with": {"a": 1}, "inputs": {"b": "text"}, "outputs": {"c": "d"}})


CONFLICTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "branches": ({"parallel": [SPLIT, SPLIT]}, "steps[0].parallel[1]", "count"),
    "a branch and a sequence's last step": (
        {"parallel": [SPLIT, {"sequence": [TEMPLATE, SPLIT]}]},
        "steps[0].parallel[1]",
        "count",
    ),
    "collecting branches": ({"parallel": [SPLIT, SPLIT], "on_error": "collect"}, "steps[0].parallel[1]", "count"),
    "a field that the input has too": (
        {"parallel": [{"sequence": [TEMPLATE]}, {"sequence": [TEMPLATE]}]},
        "steps[0].parallel[1]",
        "text",
    ),
    "save_as": (
        {"parallel": [{**SPLIT, "save_as": "x"}, {**SPLIT, "outputs": {"parts": "x"}}]},
        "steps[0].parallel[1]",
        "x",
    ),
    "a branch beside one that may write anything": (
        {"parallel": [ANYTHING, SPLIT, SPLIT]},
        "steps[0].parallel[2]",
        "count",
    ),
}


@pytest.mark.parametrize(("step", "path", "field"), CONFLICTS.values(), ids=CONFLICTS.keys())
def test_branches_that_write_one_field(step: dict[str, Any], path: str, field: str) -> None:
    error = refused(step)
    assert isinstance(error, InvalidPipeline)
    assert (error.code, error.path, error.details["field"]) == ("output_conflict", path, field)


def test_branches_that_write_one_field_are_fine_in_a_list_and_where_one_wins() -> None:
    compiled({"parallel": [SPLIT, SPLIT], "save_as": "both"})
    compiled({"parallel": [SPLIT, SPLIT], "join": "any"})


def test_a_renamed_output_must_not_meet_another() -> None:
    error = refused({**SPLIT, "outputs": {"parts": "count"}})
    assert isinstance(error, InvalidPipeline)
    assert (error.code, error.path) == ("output_conflict", "steps[0].outputs")
    compiled({**SPLIT, "outputs": {"parts": "count", "count": "parts"}})


@pytest.mark.parametrize(
    ("signature", "told"),
    [
        (None, "needs a signature"),
        (7, "needs a signature"),
        ("question", "->"),
        ("a -> b -> c", "->"),
        ("a: strr -> b", "strr"),
    ],
)
def test_bad_signature(signature: Any, told: str) -> None:
    error = refused(predict(signature))
    assert isinstance(error, InvalidPipeline)
    assert (error.code, error.path) == ("invalid_signature", "steps[0].with.signature")
    assert told in error.message


def test_constants_that_a_handler_needs_besides_its_signature() -> None:
    judge = HandlerInfo(name="judge", reads="signature", required=("signature", "rubric"), outputs=())
    step: dict[str, Any] = {"native": "judge", "with": {"signature": "text -> score: float"}}
    error = refused(step, offered=catalog(native=(judge,)))
    assert isinstance(error, InvalidPipeline)
    assert (error.code, error.path, error.details["field"]) == ("missing_field", "steps[0].with", "rubric")
    compiled({**step, "with": {**step["with"], "rubric": ""}}, offered=catalog(native=(judge,)))


def test_the_run_s_output_must_be_written() -> None:
    error = refused(SPLIT, output=["text", "count", "answer"])
    assert isinstance(error, InvalidPipeline)
    assert (error.code, error.path, error.details["field"]) == ("missing_field", "output", "answer")
    assert compiled(SPLIT, output=["text", "count"]).output == ("text", "count")


def test_what_a_step_is_sent() -> None:
    node = task({**SPLIT, "with": {"limit": 3}, "inputs": {"text": "text.body"}})
    assert (node.reads, node.optional, node.reads_all) == ({"text": "text.body", "by": "by"}, ("by",), False)
    assert node.options == {"limit": 3}


def test_an_optional_field_from_a_named_source_is_wanted() -> None:
    node = task({**SPLIT, "inputs": {"by": "text"}})
    assert (node.reads, node.optional) == ({"text": "text", "by": "text", "limit": "limit"}, ("limit",))


def test_what_a_step_with_a_signature_is_sent() -> None:
    node = task(predict("text, hint: Optional[str], tone: Optional[str] -> answer", inputs={"hint": "text"}))
    assert (node.reads, node.optional) == ({"text": "text", "hint": "text", "tone": "tone"}, ("tone",))


def test_a_handler_that_reads_anything_is_sent_everything() -> None:
    node = task({**TEMPLATE, "inputs": {"body": "text.0"}})
    assert (node.reads, node.optional, node.reads_all) == ({"body": "text.0"}, (), True)


ASSERTING = msgspec.structs.replace(PREDICT, optional=("assert",), outputs=("reasoning",))


@pytest.mark.parametrize(
    ("given", "place", "code"),
    [
        (["size(answer) > 3", "scor > 1"], 1, "missing_field"),
        ([{"that": "text == hint", "say": "?"}], 0, "missing_field"),
        (["answer >"], 0, "invalid_condition"),
        ([{}], 0, "missing_field"),
    ],
)
def test_an_assertion_must_be_about_the_signature_s_fields(given: Any, place: int, code: str) -> None:
    step = predict("text -> answer")
    error = refused({**step, "with": {**step["with"], "assert": given}}, offered=catalog(native=(ASSERTING,)))
    assert isinstance(error, InvalidPipeline)
    assert (error.code, error.path) == (code, f"steps[0].with.assert[{place}]")


def test_assertions_about_inputs_outputs_and_what_a_handler_adds() -> None:
    step = predict("text -> answer, parts: list[str]")
    good = ["answer != text", {"that": "size(reasoning) > 0"}, "parts.all(part, size(part) > 0)"]
    for given in (good, "not a list"):
        compiled({**step, "with": {**step["with"], "assert": given}}, offered=catalog(native=(ASSERTING,)))


def test_a_step_that_remembers_is_given_its_history_and_reads_none() -> None:
    asked = {"module": "dspy.Predict", "with": {"signature": "question, told: dspy.History -> answer"}}
    assert refused(asked, known={"question"}).details["field"] == "told"
    assert task({**asked, "remember": True}, known={"question"}).reads == {"question": "question"}
    told = HandlerInfo(name="told", required=("question",), optional=("history",))
    offered = catalog(own=(told,))
    assert task({"native": "told"}, known={"question"}, offered=offered).optional == ("history",)
    assert task({"native": "told", "remember": True}, known={"question", "history"}, offered=offered).reads == {
        "question": "question"
    }
