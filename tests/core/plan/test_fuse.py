"""Which steps may travel together."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_bus.wire import HandlerInfo, MapNode, Node, ParallelNode, TaskNode

from .building import catalog, compiled

PURE = HandlerInfo(name="pure", reads="any", pure=True)
OFFERED = catalog(
    native=(PURE, HandlerInfo(name="heavy", reads="any")),
    other=(HandlerInfo(name="elsewhere", reads="any", pure=True),),
    dspy=(
        HandlerInfo(name="dspy.Module", reads="any", implementation="dspy", pure=True),
        HandlerInfo(name="dspy.Ask", reads="any", implementation="dspy", carries=True),
    ),
)
STEP: dict[str, Any] = {"native": "pure"}


def fuses(*nodes: Node) -> list[int | None]:
    """None for what is no task."""
    return [node.fuse if isinstance(node, TaskNode) else None for node in nodes]


def compiled_fuses(*steps: dict[str, Any], **more: Any) -> list[int | None]:
    return fuses(*compiled(*steps, offered=OFFERED, **more).root.children)


def test_each_takes_those_after_it_along() -> None:
    assert compiled_fuses(STEP, STEP, STEP) == [2, 1, 0]


@pytest.mark.parametrize(
    ("between", "found"),
    [
        ({"native": "heavy"}, 0),
        ({"native": "elsewhere"}, 0),
        ({"module": "dspy.Module"}, 0),
        ({**STEP, "cache_s": 60}, 0),
        ({**STEP, "remember": True}, 0),
        ({**STEP, "affinity": "hint"}, 0),
        ({**STEP, "fuse": False}, 0),
        ({"sleep_s": 1}, None),
        ({"parallel": [STEP, {**STEP, "save_as": "a"}], "save_as": "b"}, None),
    ],
)
def test_what_travels_by_itself(between: dict[str, Any], found: int | None) -> None:
    assert compiled_fuses(STEP, STEP, between, STEP, STEP) == [1, 0, found, 1, 0]


def test_a_pipeline_that_wants_none_of_it() -> None:
    assert compiled_fuses(STEP, STEP, fuse=False) == [0, 0]


def test_neighbours_in_another_pool() -> None:
    other = {"native": "elsewhere"}
    assert compiled_fuses(STEP, other, other, STEP) == [0, 1, 0, 0]


def test_no_more_than_one_message_shall_hold() -> None:
    assert compiled_fuses(*[STEP] * 130)[:4] == [127, 127, 127, 126]


def test_one_that_names_the_list_of_its_map_travels_by_itself() -> None:
    """Those that take everything do not get the list, and the context that goes along is for all of them."""
    reader = {**STEP, "inputs": {"all": "text.0"}}
    node = compiled({"map": "text", "do": [STEP, reader, STEP, STEP]}, {**reader}, STEP, offered=OFFERED).root
    body, *after = node.children
    assert isinstance(body, MapNode)
    assert fuses(*body.body.children) == [0, 0, 1, 0]
    assert fuses(*after) == [1, 0]


def test_one_that_carries_is_the_first_of_those_that_travel() -> None:
    ask, pure = {"module": "dspy.Ask"}, {"module": "dspy.Module"}
    assert compiled_fuses(pure, ask, pure, pure, ask, ask, STEP) == [0, 2, 1, 0, 0, 0, 0]
    assert compiled_fuses({**ask, "fuse": False}, pure) == [0, 0]
    assert compiled_fuses({**ask, "cache_s": 60}, pure) == [0, 0]


def test_bodies_and_branches() -> None:
    offered: dict[str, Any] = {"map": "text", "do": [STEP, STEP]}
    node = compiled(offered, {"parallel": [STEP, {**STEP, "save_as": "a"}], "save_as": "b"}, offered=OFFERED).root
    body, branches = node.children
    assert isinstance(body, MapNode)
    assert fuses(*body.body.children) == [1, 0]
    assert isinstance(branches, ParallelNode)
    assert fuses(*branches.children) == [0, 0]
