"""The plan's shape: ids, names, defaults."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_bus.wire import Node, ParallelNode, RetryPolicy, SequenceNode, TaskNode
from dspex_router.plan import digest_of

from .building import compiled, definition, task

SPLIT: dict[str, Any] = {"native": "split"}
TREE: list[dict[str, Any]] = [
    SPLIT,
    {"parallel": [SPLIT, {"sequence": [SPLIT, {"parallel": [SPLIT], "name": "inner"}]}], "save_as": "both"},
    {**SPLIT, "name": "last"},
]


def ids(node: Node) -> Any:
    """The tree of ids and names."""
    return (node.id, node.name, [] if isinstance(node, TaskNode) else [ids(child) for child in node.children])


def test_ids_are_places_in_the_tree() -> None:
    assert ids(compiled(*TREE).root) == (
        "root",
        "p",
        [
            ("0", "split", []),
            (
                "1",
                "parallel",
                [
                    ("1-0", "split", []),
                    ("1-1", "sequence", [("1-1-0", "split", []), ("1-1-1", "inner", [("1-1-1-0", "split", [])])]),
                ],
            ),
            ("2", "last", []),
        ],
    )


def test_equal_definitions_give_equal_plans() -> None:
    assert compiled(*TREE) == compiled(*TREE)
    assert compiled(*TREE).digest == digest_of(definition(*TREE))
    assert compiled(*TREE).pipeline == "p"


def test_groups_keep_what_they_say() -> None:
    parallel, sequence = compiled(
        {"parallel": [SPLIT], "save_as": "found", "on_error": "collect", "name": "search"},
        {"sequence": [SPLIT], "name": "both"},
    ).root.children
    assert isinstance(parallel, ParallelNode)
    assert isinstance(sequence, SequenceNode)
    assert (parallel.name, parallel.save_as, parallel.join.on_error) == ("search", "found", "collect")
    assert sequence.name == "both"


def test_a_step_keeps_what_it_says() -> None:
    node = task({**SPLIT, "outputs": {"parts": "pieces"}, "name": "cut", "timeout_s": 1.5, "cache_s": 60})
    assert (node.name, node.writes, node.save_as) == ("cut", {"parts": "pieces"}, None)
    assert (node.timeout_ms, node.cache_ms) == (1500, 60_000)
    assert task({**SPLIT, "save_as": "s"}).save_as == "s"


def test_defaults_of_time() -> None:
    assert (task(SPLIT).timeout_ms, task(SPLIT).cache_ms) == (60_000, 0)
    assert task({"module": "dspy.Predict", "with": {"signature": "text -> answer"}}).timeout_ms == 300_000


@pytest.mark.parametrize("seconds", [0.0001, 0.001])
def test_a_time_is_never_rounded_to_none(seconds: float) -> None:
    node = task({**SPLIT, "timeout_s": seconds, "cache_s": seconds})
    assert (node.timeout_ms, node.cache_ms) == (1, 1)


def test_retries_come_from_the_step_the_pipeline_or_the_defaults() -> None:
    own, common = {"attempts": 7, "codes": ["busy"]}, {"attempts": 5}
    assert task(SPLIT).retry == RetryPolicy()
    assert task(SPLIT, retry=common).retry == RetryPolicy(attempts=5)
    assert task({**SPLIT, "retry": own}, retry=common).retry == RetryPolicy(attempts=7, codes=("busy",))
