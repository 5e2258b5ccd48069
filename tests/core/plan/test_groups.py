"""What the kinds of steps are compiled to: places, joins, and pipelines within pipelines."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_bus.errors import InvalidPipeline
from dspex_bus.wire import (
    BranchNode,
    HandlerInfo,
    Join,
    LoopNode,
    MapNode,
    ParallelNode,
    PipelineDefinition,
    PipelineNode,
    SleepNode,
    TaskNode,
    WaitNode,
    find,
    is_before,
)
from dspex_router.plan import Reference, check_structure, compile_pipeline, references

from .building import catalog, compiled, definition

SPLIT: dict[str, Any] = {"native": "split"}


def test_places_of_what_repeats() -> None:
    plan = compiled({"map": "text", "do": [SPLIT, {"loop": [SPLIT], "until": "true"}]})
    node = plan.root.children[0]
    assert isinstance(node, MapNode)
    assert (node.id, node.body.id, [child.id for child in node.body.children]) == ("0", "0-n", ["0-n-0", "0-n-1"])
    loop = node.body.children[1]
    assert isinstance(loop, LoopNode)
    assert loop.body.children[0].id == "0-n-1-n-0"
    for run, place in {"0": "0", "0-7": "0-n", "0-7-0": "0-n-0", "0-7-1-3-0": "0-n-1-n-0"}.items():
        found = find(plan, run)
        assert found is not None
        assert found.id == place
    assert [find(plan, run) for run in ("1", "0-7-2", "0-7-0-0", "x", "")] == [None] * 5


def test_places_of_cases() -> None:
    plan = compiled(
        {"branch": [{"when": "true", "do": [SPLIT]}, {"when": "false", "do": [SPLIT]}], "otherwise": [SPLIT]}
    )
    node = plan.root.children[0]
    assert isinstance(node, BranchNode)
    assert [case.body.children[0].id for case in node.cases] == ["0-0-0", "0-1-0"]
    assert node.otherwise is not None
    assert node.otherwise.children[0].id == "0-2-0"
    assert find(plan, "0-2-0") is node.otherwise.children[0]


@pytest.mark.parametrize(
    ("run", "other", "before"),
    [
        ("0", "1", True),
        ("1", "1", False),
        ("2", "1", False),
        ("0-1", "0-0", True),  # side by side
        ("0-0", "0", False),  # below it
        ("1-7-0", "1-3-1", True),  # for other items
        ("1-3-0", "1-3-1", True),
        ("1-3-1", "1-3-0", False),
        ("1-3-0", "1-3", False),
        ("2-1-0", "2-2-0", True),  # in other rounds
        ("2-10-0", "2-2-0", False),
        ("2-1-1-0-0", "2-1-0", False),
        ("0", "x", False),
        ("9-0-0", "9-1-0", True),  # where the plan has no such place, by number
    ],
)
def test_what_is_before(run: str, other: str, before: bool) -> None:
    branch = {"branch": [{"when": "true", "do": [SPLIT]}]}
    plan = compiled(
        {"parallel": [SPLIT, SPLIT], "save_as": "x"},
        {"map": "text", "do": [SPLIT, SPLIT]},
        {"loop": [SPLIT, branch], "until": "true"},
    )
    assert is_before(plan, run, other) is before


def test_joins() -> None:
    parallel, mapped = compiled(
        {"parallel": [SPLIT, SPLIT], "join": "quorum", "quorum": 2, "timeout_s": 1.5, "save_as": "x"},
        {"map": "text", "do": [SPLIT], "join": "best_effort", "limit": 3},
    ).root.children
    assert isinstance(parallel, ParallelNode)
    assert isinstance(mapped, MapNode)
    assert parallel.join == Join(kind="quorum", quorum=2, timeout_ms=1500)
    assert (mapped.join, mapped.limit, mapped.columns) == (Join(kind="best_effort"), 3, ("count", "parts"))


def test_a_map_s_list_is_not_for_who_takes_everything() -> None:
    def hidden(**step: Any) -> str:
        (node,) = compiled({"do": [SPLIT], **step}).root.children
        assert isinstance(node, MapNode)
        return node.hidden

    assert hidden(map="text") == "text"
    assert hidden(map="text.parts") == ""
    assert hidden(map="text", item="text") == ""


def test_sleep_and_wait() -> None:
    sleep, wait = compiled(
        {"sleep_s": 0.0001}, {"wait": "go", "timeout_s": 2, "default": {"ok": False}, "outputs": {"ok": "approved"}}
    ).root.children
    assert isinstance(sleep, SleepNode)
    assert isinstance(wait, WaitNode)
    assert sleep.duration_ms == 1
    assert (wait.signal, wait.timeout_ms, wait.default, wait.writes) == ("go", 2000, {"ok": False}, {"ok": "approved"})


SUB = definition(SPLIT, {"native": "search", "with": {"folder": "x"}, "inputs": {"query": "parts.0"}})


def nested(step: dict[str, Any], sub: PipelineDefinition = SUB, **more: Any) -> PipelineNode:
    plan = compile_pipeline(
        definition(step, name="outer"),
        catalog(),
        input_fields={"text"},
        definitions={Reference("sub"): sub, **more.pop("definitions", {})},
        **more,
    )
    node = plan.root.children[0]
    assert isinstance(node, PipelineNode)
    return node


def test_a_pipeline_within() -> None:
    node = nested({"pipeline": "sub"})
    assert (node.name, node.reads_all, node.retry.attempts) == ("sub", True, 1)
    assert [child.id for child in node.plan.root.children] == ["0", "1"]
    assert isinstance(node.plan.root.children[0], TaskNode)


def test_faults_of_a_pipeline_within_are_found_where_they_are() -> None:
    with pytest.raises(InvalidPipeline) as caught:
        nested({"pipeline": "sub", "inputs": {"body": "text"}})
    assert (caught.value.code, caught.value.path) == ("missing_field", "steps[0].pipeline(sub).steps[0]")
    nested({"pipeline": "sub", "inputs": {"text": "text"}})
    nested({"pipeline": "sub", "with": {"text": "constant"}})
    with pytest.raises(InvalidPipeline) as caught:
        nested({"pipeline": "sub", "inputs": {"text": "body"}})
    assert (caught.value.path, caught.value.details["field"]) == ("steps[0]", "body")


def test_a_pipeline_within_a_map_is_not_given_the_list() -> None:
    def outer(*steps: dict[str, Any]) -> None:
        compile_pipeline(
            definition(*steps, name="outer"), catalog(), input_fields={"text"}, definitions={Reference("sub"): SUB}
        )

    outer({"map": "text", "do": [{"pipeline": "sub", "inputs": {"text": "text"}}]})
    outer({"map": "text", "item": "text", "do": [{"pipeline": "sub"}]})
    with pytest.raises(InvalidPipeline) as caught:
        outer({"map": "text", "do": [{"pipeline": "sub"}]}, {"pipeline": "sub"})
    assert (caught.value.code, caught.value.details["field"]) == ("missing_field", "text")
    with pytest.raises(InvalidPipeline) as caught:
        outer({"map": "text", "do": [{"map": "item", "item": "one", "do": [{"pipeline": "sub"}]}]})
    assert caught.value.details["field"] == "text"


def test_what_a_pipeline_within_writes_is_known() -> None:
    def outer(*steps: dict[str, Any]) -> None:
        compile_pipeline(
            definition(*steps, name="outer"), catalog(), input_fields={"text"}, definitions={Reference("sub"): SUB}
        )

    outer({"pipeline": "sub"}, {**SPLIT, "inputs": {"text": "passages"}})
    with pytest.raises(InvalidPipeline) as caught:
        outer({"pipeline": "sub"}, {**SPLIT, "inputs": {"text": "parts"}})
    assert (caught.value.code, caught.value.details["field"]) == ("missing_field", "parts")


@pytest.mark.parametrize("within", [[{"pipeline": "sub"}], [{"loop": [{"pipeline": "outer"}], "until": "true"}]])
def test_a_pipeline_that_would_run_itself(within: list[dict[str, Any]]) -> None:
    sub = definition(*within, name="sub")
    with pytest.raises(InvalidPipeline) as caught:
        nested({"pipeline": "sub"}, sub)
    assert caught.value.code == "recursive_pipeline"


def test_nesting_of_pipelines_has_an_end() -> None:
    names = [f"p{number}" for number in range(12)]
    definitions = {
        Reference(name): definition({"pipeline": following}, name=name)
        for name, following in zip(names, [*names[1:], "last"], strict=True)
    }
    definitions[Reference("last")] = definition(SPLIT, name="last")
    with pytest.raises(InvalidPipeline, match="nested more than 8 deep"):
        nested({"pipeline": "p0"}, definitions=definitions)


def test_pipelines_of_pipelines_of_pipelines_have_an_end() -> None:
    names = [f"p{number}" for number in range(6)]
    definitions = {
        Reference(name): definition(*[{"pipeline": following}] * 30, name=name)
        for name, following in zip(names, [*names[1:], "last"], strict=True)
    }
    definitions[Reference("last")] = definition(SPLIT, name="last")
    with pytest.raises(InvalidPipeline, match="more than 20,000 steps"):
        nested({"pipeline": "p0"}, definitions=definitions)


def test_a_definition_has_an_end() -> None:
    with pytest.raises(InvalidPipeline, match="more than 20,000 steps") as caught:
        check_structure(definition({"parallel": [SPLIT] * 20_000, "save_as": "x"}))
    assert caught.value.path == "steps[0].parallel[19999]"


@pytest.mark.parametrize("step", [{"sleep_s": 1}, {"wait": "go"}, {"pipeline": "sub"}])
def test_what_needs_a_journal_is_refused_without_one(step: dict[str, Any]) -> None:
    with pytest.raises(InvalidPipeline) as caught:
        nested({"parallel": [step], "save_as": "x"}, durability="none")
    assert (caught.value.code, caught.value.path) == ("needs_stored_run", "steps[0].parallel[0]")


def test_references_are_found_wherever_they_stand() -> None:
    step: dict[str, Any] = {
        "parallel": [
            {"sequence": [{"pipeline": "a"}]},
            {"map": "x", "do": [{"pipeline": "b", "version": "1"}]},
            {"branch": [{"when": "true", "do": [{"pipeline": "c"}]}], "otherwise": [{"pipeline": "d"}]},
            {"loop": [{"pipeline": "e"}], "until": "true"},
        ]
    }
    found = {Reference("a"), Reference("b", "1"), Reference("c"), Reference("d"), Reference("e")}
    assert references(definition(step)) == found


def test_a_handler_that_resumes_is_for_stored_runs_alone() -> None:
    offered = catalog(optimize=(HandlerInfo(name="optimize", reads="any", resumes=True),))
    steps = definition({"native": "optimize"})
    assert compile_pipeline(steps, offered, input_fields=set()).root.children
    with pytest.raises(InvalidPipeline) as caught:
        compile_pipeline(steps, offered, input_fields=set(), durability="none")
    assert (caught.value.code, caught.value.path) == ("needs_stored_run", "steps[0]")
