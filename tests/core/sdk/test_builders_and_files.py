"""A pipeline is the same, written in Python, YAML or JSON."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

import dspex
from dspex_bus.errors import InvalidRequest

YAML = """
name: research
output: [text]
retry: {attempts: 2}
steps:
  - native: signature
    with: {spec: "question -> answer"}
  - parallel:
      - native: vector_search
        inputs: {query: question}
        outputs: {passages: by_meaning}
        timeout_s: 5
      - sequence:
          - module: dspy.ChainOfThought
            with: {signature: "question -> answer"}
            cache_s: 60
    on_error: collect
    save_as: found
  - call: predict
    implementation: native
    with: {signature: "question -> text"}
"""

PYTHON = dspex.pipeline(
    [
        dspex.native("signature", spec="question -> answer"),
        dspex.parallel(
            [
                dspex.native(
                    "vector_search", inputs={"query": "question"}, outputs={"passages": "by_meaning"}, timeout_s=5
                ),
                dspex.sequence([dspex.module("dspy.ChainOfThought", signature="question -> answer", cache_s=60)]),
            ],
            on_error="collect",
            save_as="found",
        ),
        dspex.call("predict", implementation="native", signature="question -> text"),
    ],
    name="research",
    output=["text"],
    retry=dspex.RetryPolicy(attempts=2),
)


def test_yaml_is_python() -> None:
    assert dspex.parse_pipeline(YAML) == PYTHON


def test_json_is_python() -> None:
    assert dspex.parse_pipeline(msgspec.json.encode(PYTHON).decode()) == PYTHON


def test_a_file_names_a_pipeline_that_has_no_name(tmp_path: Path) -> None:
    file = tmp_path / "greeting.yaml"
    file.write_text("steps: [{native: template, with: {template: hi}}]")
    assert dspex.load_pipeline(file).name == "greeting"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("steps: [{native: template, wiht: {}}]", "wiht"),
        ("steps: [{native: 7}]", "$.steps[0].native"),
        ("steps: []", "$.steps"),
        ("name: has space\nsteps: [{native: x}]", "$.name"),
        ("steps: [{native: x, timeout_s: 0}]", "$.steps[0].timeout_s"),
        ("steps: [{native: x, retry: {attempts: 0}}]", "$.steps[0].retry.attempts"),
        ("- native: x", "mapping"),
        ("steps: [", "not YAML"),
    ],
)
def test_errors_name_the_place(text: str, place: str) -> None:
    with pytest.raises(dspex.InvalidRequest) as refusal:
        dspex.parse_pipeline(text, source="file.yaml")
    assert place in str(refusal.value)
    assert refusal.value.code == "invalid_pipeline"


def test_an_absent_file_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(dspex.InvalidRequest, match=r"nowhere\.yaml"):
        dspex.load_pipeline(tmp_path / "nowhere.yaml")


def test_constants_and_attributes_do_not_mix() -> None:
    step = dspex.native("template", template="{{ a }}", name="greet", save_as="out", pool="mine")
    assert step.with_ == {"template": "{{ a }}"}
    assert (step.name, step.save_as, step.pool) == ("greet", "out", "mine")


class Answering:
    """Answer it."""

    question: dspex.Input[str]
    answer: dspex.Output[Annotated[str, msgspec.Meta(min_length=2)]] = "no"


WRITTEN = {"signature": "question: str -> answer: str[min_length=2] = 'no'", "instructions": "Answer it."}


@pytest.mark.parametrize("form", [Answering, dspex.signature(Answering)])
def test_a_step_takes_a_signature_in_any_form(form: Any) -> None:
    assert dspex.call("predict", signature=form, model="m").with_ == {**WRITTEN, "model": "m"}
    assert dspex.module("dspy.Predict", signature=form, instructions="Other.").with_["instructions"] == "Other."
    assert dspex.native("compile_signature", spec=form).with_["spec"] == WRITTEN["signature"]


def test_a_step_takes_a_signature_of_dspys() -> None:
    dspy = pytest.importorskip("dspy")
    assert dspex.call("predict", signature=dspy.Signature("q, k: int -> a", "Do.")).with_ == {
        "signature": "q, k: int -> a: str",
        "instructions": "Do.",
    }
    kind = enum.Enum("Kind", ["A"])
    fields = {"q": (str, dspy.InputField()), "kind": (kind, dspy.OutputField())}
    with pytest.raises(InvalidRequest, match="code of their own cannot travel: Kind"):
        dspex.signature(dspy.Signature(fields, "Do."))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("stepz: []", "`steps`"),
        ("steps: [{nativ: template}]", "`native`"),
        ("steps: [{native: x, retry: {atempts: 3}}]", "`attempts`"),
        ("steps: [{native: x, qqqq: 3}]", None),
    ],
)
def test_a_misspelt_field_is_told_the_one_that_is_meant(text: str, meant: str | None) -> None:
    with pytest.raises(dspex.InvalidRequest) as refused:
        dspex.parse_pipeline(text)
    assert refused.value.message.endswith(f"; did you mean {meant}?" if meant else "unknown field `qqqq`")


@pytest.mark.parametrize("steps", ["template", dspex.native("template", template="x"), [{"native": "template"}]])
def test_steps_are_a_list_of_steps(steps: Any) -> None:
    with pytest.raises(dspex.InvalidRequest, match="a list of steps"):
        dspex.pipeline(steps)
