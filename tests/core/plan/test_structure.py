"""What is wrong with a definition whatever workers there are: each fault with its path and its code."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_bus.errors import InvalidPipeline
from dspex_router.plan import check_structure, digest_of

from .building import definition

SPLIT: dict[str, Any] = {"native": "split"}


def nested(depth: int) -> dict[str, Any]:
    step = SPLIT
    for _ in range(depth):
        step = {"sequence": [step]}
    return step


FAULTS = {
    "no kind": ({"name": "x"}, "steps[0]", "invalid_pipeline", "it has none"),
    "two kinds": ({"native": "a", "module": "b"}, "steps[0]", "invalid_pipeline", "it has native and module"),
    "empty parallel": ({"parallel": []}, "steps[0].parallel", "invalid_pipeline", "parallel has no steps"),
    "empty sequence": ({"sequence": []}, "steps[0].sequence", "invalid_pipeline", "sequence has no steps"),
    "retry of a parallel": ({"parallel": [SPLIT], "retry": {}}, "steps[0]", "invalid_pipeline", "'retry'"),
    "timeout of a sequence": ({"sequence": [SPLIT], "timeout_s": 1}, "steps[0]", "invalid_pipeline", "'timeout_s'"),
    "constants of a parallel": ({"parallel": [SPLIT], "with": {"a": 1}}, "steps[0]", "invalid_pipeline", "'with'"),
    "save_as of a sequence": ({"sequence": [SPLIT], "save_as": "x"}, "steps[0]", "invalid_pipeline", "'save_as'"),
    "on_error of a task": ({**SPLIT, "on_error": "collect"}, "steps[0]", "invalid_pipeline", "'on_error'"),
    "implementation of a native step": (
        {**SPLIT, "implementation": "dspy"},
        "steps[0]",
        "invalid_pipeline",
        "'implementation'",
    ),
    "a pattern for codes to retry": (
        {**SPLIT, "retry": {"codes": ["odd", "lm_*"]}},
        "steps[0].retry.codes[1]",
        "invalid_pipeline",
        "'lm_*' cannot be an error's code",
    ),
    "a handler that is no subject": ({"native": "a b"}, "steps[0].native", "invalid_name", "'a b'"),
    "a handler with a wildcard": ({"call": "a.>"}, "steps[0].call", "invalid_name", "'a.>'"),
    "an empty handler": ({"module": ""}, "steps[0].module", "invalid_name", "''"),
    "a pool that is no token": ({**SPLIT, "pool": "a.b"}, "steps[0].pool", "invalid_name", "'a.b'"),
    "constant and input": (
        {**SPLIT, "with": {"text": "x"}, "inputs": {"text": "y"}},
        "steps[0].inputs",
        "invalid_pipeline",
        "'text' is given in 'with' and in 'inputs'",
    ),
    "an input from no path": (
        {**SPLIT, "inputs": {"text": "a..b"}},
        "steps[0].inputs.text",
        "invalid_pipeline",
        "a..b",
    ),
    "an output under no name": (
        {**SPLIT, "outputs": {"parts": "my parts"}},
        "steps[0].outputs.parts",
        "invalid_pipeline",
        "my parts",
    ),
    "two outputs under one name": (
        {"native": "anything", "outputs": {"a": "x", "b": "x"}},
        "steps[0].outputs",
        "output_conflict",
        "one name",
    ),
    "save_as that is a path": ({**SPLIT, "save_as": "a.b"}, "steps[0].save_as", "invalid_pipeline", "a.b"),
    "save_as of a parallel that is a path": (
        {"parallel": [SPLIT], "save_as": "a.b"},
        "steps[0].save_as",
        "invalid_pipeline",
        "a.b",
    ),
    "save_as and outputs": (
        {**SPLIT, "save_as": "x", "outputs": {"parts": "y"}},
        "steps[0].save_as",
        "invalid_pipeline",
        "choose one",
    ),
    "a pool that is the router's": ({**SPLIT, "pool": "router"}, "steps[0].pool", "invalid_pipeline", "router's own"),
    "a quorum of what": (
        {"parallel": [SPLIT], "join": "quorum"},
        "steps[0].quorum",
        "invalid_pipeline",
        "how many",
    ),
    "a number alone": (
        {"parallel": [SPLIT], "quorum": 1},
        "steps[0].quorum",
        "invalid_pipeline",
        "together",
    ),
    "a quorum of more than there are": (
        {"parallel": [SPLIT], "join": "quorum", "quorum": 2},
        "steps[0].quorum",
        "invalid_pipeline",
        "2 out of 1",
    ),
    "failures of any collected": (
        {"parallel": [SPLIT], "join": "any", "on_error": "collect"},
        "steps[0].on_error",
        "invalid_pipeline",
        "join of all",
    ),
    "a map of nothing": ({"map": "parts"}, "steps[0].do", "invalid_pipeline", "needs 'do'"),
    "a map with no steps": ({"map": "parts", "do": []}, "steps[0].do", "invalid_pipeline", "no steps"),
    "a map over no path": ({"map": "a b", "do": [SPLIT]}, "steps[0].map", "invalid_pipeline", "a b"),
    "an item that is no name": (
        {"map": "parts", "do": [SPLIT], "item": "a.b"},
        "steps[0].item",
        "invalid_pipeline",
        "a.b",
    ),
    "a branch with no cases": ({"branch": []}, "steps[0].branch", "invalid_pipeline", "no cases"),
    "a condition that is none": (
        {"branch": [{"when": "score >", "do": [SPLIT]}]},
        "steps[0].branch[0].when",
        "invalid_condition",
        "score >",
    ),
    "a condition through two lists": (
        {"branch": [{"when": "a.all(x, b.all(y, x > y))", "do": [SPLIT]}]},
        "steps[0].branch[0].when",
        "invalid_condition",
        "one list",
    ),
    "a long condition": (
        {"branch": [{"when": "true || " * 300 + "true", "do": [SPLIT]}]},
        "steps[0].branch[0].when",
        "invalid_condition",
        "2000 characters",
    ),
    "a loop without an end": ({"loop": [SPLIT]}, "steps[0].until", "invalid_pipeline", "needs 'until'"),
    "a loop until nonsense": ({"loop": [SPLIT], "until": "("}, "steps[0].until", "invalid_condition", "condition"),
    "an empty loop": ({"loop": [], "until": "true"}, "steps[0].loop", "invalid_pipeline", "no steps"),
    "a signal that is no token": ({"wait": "a.b"}, "steps[0].wait", "invalid_name", "a.b"),
    "a default without a time": ({"wait": "go", "default": {}}, "steps[0].default", "invalid_pipeline", "timeout_s"),
    "a pipeline that is no token": ({"pipeline": "a.b"}, "steps[0].pipeline", "invalid_name", "a.b"),
    "a version that is no token": (
        {"pipeline": "sub", "version": "a b"},
        "steps[0].version",
        "invalid_name",
        "a b",
    ),
    "in a case": (
        {"branch": [{"when": "true", "do": [{"native": "a b"}]}]},
        "steps[0].branch[0].do[0].native",
        "invalid_name",
        "'a b'",
    ),
    "otherwise": (
        {"branch": [{"when": "true", "do": [SPLIT]}], "otherwise": [{"native": "a b"}]},
        "steps[0].otherwise[0].native",
        "invalid_name",
        "'a b'",
    ),
    "in a map": ({"map": "parts", "do": [{"native": "a b"}]}, "steps[0].do[0].native", "invalid_name", "'a b'"),
    "in a loop": ({"loop": [{"native": "a b"}], "until": "true"}, "steps[0].loop[0].native", "invalid_name", "'a b'"),
    "in a branch": (
        {"parallel": [SPLIT, {"sequence": [SPLIT, {"native": "a b"}]}]},
        "steps[0].parallel[1].sequence[1].native",
        "invalid_name",
        "'a b'",
    ),
}


@pytest.mark.parametrize(("step", "path", "code", "told"), FAULTS.values(), ids=FAULTS.keys())
def test_fault(step: dict[str, Any], path: str, code: str, told: str) -> None:
    with pytest.raises(InvalidPipeline) as caught:
        check_structure(definition(step))
    error = caught.value
    assert (error.path, error.code, error.details["path"]) == (path, code, path)
    assert error.message.startswith(f"{path}: ")
    assert told in error.message


def test_the_path_counts_steps() -> None:
    with pytest.raises(InvalidPipeline, match=r"^steps\[2\]: "):
        check_structure(definition(SPLIT, SPLIT, {}))


def test_an_output_is_a_name_and_no_path() -> None:
    with pytest.raises(InvalidPipeline) as caught:
        check_structure(definition(SPLIT, output=["parts", "parts.0"]))
    assert caught.value.path == "output[1]"


def test_nesting_has_an_end() -> None:
    check_structure(definition(nested(32)))
    with pytest.raises(InvalidPipeline, match="nested more than 32 deep") as caught:
        check_structure(definition(nested(33)))
    assert caught.value.path == "steps[0]" + ".sequence[0]" * 33


SOUND: list[dict[str, Any]] = [
    {"module": "my.package:Module", "with": {"falsy": [0, False, "", None]}},
    {"call": "predict", "implementation": "native", "pool": "mine", "cache_s": 1, "timeout_s": 2, "retry": {}},
    {"native": "split", "inputs": {"text": "parts.0.text"}, "outputs": {"parts": "pieces"}, "name": "any name at all"},
    {"parallel": [SPLIT], "on_error": "collect", "save_as": "found", "name": "search"},
    {"sequence": [SPLIT], "name": "both"},
    {"map": "a.b", "do": [SPLIT], "item": "x", "limit": 2, "join": "quorum", "quorum": 9, "timeout_s": 1},
    {"branch": [{"when": "a > 1 && b.exists(x, x)", "do": [SPLIT]}], "otherwise": [SPLIT]},
    {"loop": [SPLIT], "until": "size(a) == 0", "at_most": 3},
    {"sleep_s": 604800, "name": "a week"},
    {"wait": "go", "timeout_s": 1, "default": {}, "save_as": "said"},
    {"pipeline": "sub", "version": "abc", "inputs": {"a": "b.c"}, "with": {"d": 0}, "retry": {}, "timeout_s": 1},
]


@pytest.mark.parametrize("step", SOUND, ids=lambda step: next(iter(step)))
def test_sound(step: dict[str, Any]) -> None:
    check_structure(definition(step))


def test_the_digest_is_the_content_s() -> None:
    """Pinned: stored versions and submits sent twice are told apart by it, across releases."""
    here = definition({"native": "split", "with": {"b": 1, "a": 2}}, description="d")
    assert digest_of(here) == digest_of(definition({"with": {"a": 2, "b": 1}, "native": "split"}, description="d"))
    assert digest_of(here) == "dabdbcba23186d1f"
    assert digest_of(here) != digest_of(definition({"native": "split", "with": {"b": 1, "a": 3}}, description="d"))


def test_codes_of_the_pipeline_s_own_policy() -> None:
    with pytest.raises(InvalidPipeline) as caught:
        check_structure(definition(SPLIT, retry={"codes": ["no such code"]}))
    assert caught.value.path == "retry.codes[0]"
    check_structure(definition(SPLIT, retry={"codes": ["odd", "E-42", "Strange/Code:1.2"]}))
