"""Definitions and catalogs for tests of the plan compiler."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dspex_bus.errors import DspexError
from dspex_bus.wire import HandlerInfo, Node, PipelineDefinition, Plan, TaskNode
from dspex_router.plan import Catalog, compile_pipeline

SPLIT = HandlerInfo(name="split", required=("text",), optional=("by", "limit"), outputs=("parts", "count"))
SEARCH = HandlerInfo(name="search", required=("query", "folder"), optional=("k",), outputs=("passages",))
TEMPLATE = HandlerInfo(name="template", reads="any", required=("template",), outputs=("text",))
PREDICT = HandlerInfo(
    name="predict", reads="signature", required=("signature",), optional=("instructions", "model"), outputs=()
)
THINK = msgspec.structs.replace(PREDICT, name="chain_of_thought", outputs=("reasoning",))
ANYTHING = HandlerInfo(name="anything", reads="any")
DSPY_PREDICT = msgspec.structs.replace(PREDICT, name="dspy.Predict", implementation="dspy")
REACT = msgspec.structs.replace(DSPY_PREDICT, name="dspy.ReAct", outputs=("reasoning", "trajectory"))

POOLS = {"native": (SPLIT, SEARCH, TEMPLATE, PREDICT, THINK, ANYTHING), "dspy": (DSPY_PREDICT, REACT)}


def catalog(**pools: tuple[HandlerInfo, ...]) -> Catalog:
    """The handlers of each pool; without any, those above."""
    return Catalog({pool: {info.name: info for info in infos} for pool, infos in (pools or POOLS).items()})


def definition(*steps: dict[str, Any], **attributes: Any) -> PipelineDefinition:
    """As a client writes it."""
    return msgspec.convert({"name": "p", "steps": steps, **attributes}, PipelineDefinition)


def compiled(
    *steps: dict[str, Any], known: set[str] | None = frozenset({"text"}), offered: Catalog | None = None, **more: Any
) -> Plan:
    """``known``: the run's input fields."""
    return compile_pipeline(definition(*steps, **more), offered or catalog(), input_fields=known)


def task(*steps: dict[str, Any], **more: Any) -> TaskNode:
    """The first step's node."""
    node: Node = compiled(*steps, **more).root.children[0]
    assert isinstance(node, TaskNode)
    return node


def refused(*steps: dict[str, Any], **more: Any) -> DspexError:
    with pytest.raises(DspexError) as caught:
        compiled(*steps, **more)
    return caught.value
