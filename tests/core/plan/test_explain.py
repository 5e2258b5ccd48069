"""What each step would run on, and why."""

from __future__ import annotations

from typing import Any

from dspex_router.plan import Reference, explain

from .building import catalog, definition

ASK: dict[str, Any] = {"call": "predict", "with": {"signature": "text -> answer"}}


def told(*steps: dict[str, Any], **more: Any) -> list[tuple[str, str, str, str]]:
    """Path, handler, implementation and reason, or in their place the kind and the error."""
    return [
        (found.path, found.handler or found.kind, found.implementation, found.why or (found.error or found).code)  # type: ignore[union-attr]
        if found.handler or found.error
        else (found.path, found.kind, found.wanted, "")
        for found in explain(definition(*steps), catalog(), **more)
    ]


def test_each_step_with_those_inside_it() -> None:
    split: dict[str, Any] = {"native": "split"}
    steps = told(
        ASK,
        {"parallel": [{"module": "dspy.ReAct"}, {"sequence": [split]}]},
        {"map": "parts", "do": [{**ASK, "implementation": "dspy"}]},
        {"branch": [{"when": "true", "do": [split]}], "otherwise": [{"sleep_s": 1}]},
        {"loop": [{"wait": "go"}], "until": "true"},
    )
    assert steps == [
        ("steps[0]", "predict", "native", "one direct call: native costs a fraction"),
        ("steps[1]", "parallel", "", ""),
        ("steps[1].parallel[0]", "dspy.ReAct", "dspy", "the step says so"),
        ("steps[1].parallel[1]", "sequence", "", ""),
        ("steps[1].parallel[1].sequence[0]", "split", "native", "the step says so"),
        ("steps[2]", "map", "parts", ""),
        ("steps[2].do[0]", "dspy.Predict", "dspy", "asked for"),
        ("steps[3]", "branch", "", ""),
        ("steps[3].branch[0].do[0]", "split", "native", "the step says so"),
        ("steps[3].otherwise[0]", "sleep", "", ""),
        ("steps[4]", "loop", "", ""),
        ("steps[4].loop[0]", "wait", "go", ""),
    ]


def test_a_step_that_nothing_runs_does_not_hide_the_others() -> None:
    steps = told({"native": "splitt"}, {"call": "react", "implementation": "native"}, {"name": "empty"}, ASK)
    assert [(path, said) for path, _, _, said in steps] == [
        ("steps[0]", "unknown_handler"),
        ("steps[1]", "implementation_unavailable"),
        ("steps[2]", ""),
        ("steps[3]", "one direct call: native costs a fraction"),
    ]


def test_pipelines_within_are_told_once() -> None:
    inner = definition(ASK, {"pipeline": "inner"}, {"pipeline": "gone"})
    known = {Reference("inner"): inner.__class__(name="inner", steps=inner.steps)}
    steps = told({"pipeline": "inner"}, definitions=known)
    assert [path for path, *_ in steps] == [
        "steps[0]",
        "steps[0].pipeline(inner).steps[0]",
        "steps[0].pipeline(inner).steps[1]",
        "steps[0].pipeline(inner).steps[2]",
    ]
