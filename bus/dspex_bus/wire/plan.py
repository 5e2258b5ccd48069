"""What a definition is compiled to: a tree of nodes with stable ids, kept in the session's journal.

A node's id is its place in the tree (``2``, ``2-0``, ``2-0-1``): one subject token, the same on every replica. Where a
body runs more than once, under a map or a loop, its place is written ``n``, and what runs has the number of the item or
the round in its place: node ``2-n-0`` runs as ``2-0-0``, ``2-1-0``, ….
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from .definition import Affinity, JoinKind, RetryPolicy


class TaskNode(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="task"):
    """One step on one pool. ``reads`` maps each field the step is sent to the dotted context path it comes from;
    those in ``optional`` are left out when the context lacks them. With ``reads_all`` it is sent the whole context.
    ``writes`` renames outputs. ``cache_ms`` 0: no cache. So many as ``fuse`` says of the steps after it in its sequence
    travel with it as one task."""

    id: str
    name: str
    pool: str
    handler: str
    implementation: Literal["native", "dspy"]
    options: dict[str, Any] = field(default_factory=dict)
    reads: dict[str, str] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    reads_all: bool = False
    writes: dict[str, str] = field(default_factory=dict)
    save_as: str | None = None
    timeout_ms: int
    cache_ms: int = 0
    fuse: int = 0
    retry: RetryPolicy
    stream: bool = False
    remember: bool = False
    affinity: Affinity | None = None
    limits: tuple[str, ...] = ()


class PipelineNode(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="pipeline"):
    """A pipeline run as a session of its own, with ``options`` and the fields of ``reads`` (or, with ``reads_all``, the
    whole context) as its input. ``timeout_ms`` 0: the deadline of the run that started it."""

    id: str
    name: str
    plan: Plan
    options: dict[str, Any] = field(default_factory=dict)
    reads: dict[str, str] = field(default_factory=dict)
    reads_all: bool = False
    writes: dict[str, str] = field(default_factory=dict)
    save_as: str | None = None
    timeout_ms: int = 0
    retry: RetryPolicy


class SleepNode(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="sleep"):
    id: str
    name: str
    duration_ms: int


class WaitNode(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="wait"):
    """Takes the oldest signal called ``signal``, or the next one. ``timeout_ms`` 0: until the run's deadline."""

    id: str
    name: str
    signal: str
    timeout_ms: int = 0
    default: dict[str, Any] | None = None
    writes: dict[str, str] = field(default_factory=dict)
    save_as: str | None = None


class SequenceNode(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="sequence"):
    id: str
    name: str
    children: tuple[Node, ...]


class Join(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When branches count as joined: see the definition of a step. ``timeout_ms`` 0: the run's deadline."""

    kind: JoinKind = "all"
    quorum: int = 0
    on_error: Literal["fail", "collect"] = "fail"
    timeout_ms: int = 0


class ParallelNode(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="parallel"):
    """Children start together, each on the context as it was; results in the order written."""

    id: str
    name: str
    children: tuple[Node, ...]
    save_as: str | None = None
    join: Join = Join()


class MapNode(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="map"):
    """``body`` for each item of the list at the context path ``over``, ``limit`` at a time; results in the items'
    order. ``columns`` are the fields known to be written, each a list, empty where the list is. Steps that take every
    field take all but ``hidden``."""

    id: str
    name: str
    over: str
    item: str
    body: SequenceNode
    limit: int
    columns: tuple[str, ...] = ()
    hidden: str = ""
    save_as: str | None = None
    join: Join = Join()


class Case(Struct, frozen=True, kw_only=True, omit_defaults=True):
    when: str
    body: SequenceNode


class BranchNode(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="branch"):
    """The first case whose condition holds, else ``otherwise``, else nothing. Its body's place is the case's number;
    ``otherwise`` comes after the last case."""

    id: str
    name: str
    cases: tuple[Case, ...]
    otherwise: SequenceNode | None = None


class LoopNode(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="loop"):
    """``body``, then again unless ``until`` holds, ``at_most`` times in all."""

    id: str
    name: str
    body: SequenceNode
    until: str
    at_most: int


StepNode = TaskNode | PipelineNode | SleepNode | WaitNode
"""What has attempts, each with an outcome in the journal."""

GroupNode = SequenceNode | ParallelNode | MapNode | BranchNode | LoopNode

Node = StepNode | GroupNode


class Plan(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``digest`` names the definition's content: two equal definitions have the same."""

    pipeline: str
    digest: str
    root: SequenceNode
    output: tuple[str, ...] | None = None


def members(node: Node) -> tuple[Node, ...]:
    """The nodes directly below one, in the order written."""
    match node:
        case SequenceNode() | ParallelNode():
            return node.children
        case MapNode() | LoopNode():
            return (node.body,)
        case BranchNode():
            cases = tuple(case.body for case in node.cases)
            return cases if node.otherwise is None else (*cases, node.otherwise)
    return ()


def find(plan: Plan, run: str) -> Node | None:
    """The node that ran as ``run``, the id in an event's subject; None where the plan has no such place."""
    node: Node | None = plan.root
    for place in run.split("-"):
        node = None if node is None else _below(node, place)
    return node


def is_before(plan: Plan, run: str, other: str) -> bool:
    """Whether what ran as ``run`` is done when ``other`` starts, or has nothing to do with it: it is neither the same,
    nor below it, nor does it come after it in a sequence or a loop."""
    node: Node | None = plan.root
    for place, place_of_other in zip(run.split("-"), other.split("-"), strict=False):
        if place != place_of_other:
            earlier = place_of_other.isdecimal() and int(place) < int(place_of_other)
            return earlier or isinstance(node, ParallelNode | MapNode)
        node = None if node is None else _below(node, place)
    return False


def _below(node: Node, place: str) -> Node | None:
    below = members(node)
    if isinstance(node, MapNode | LoopNode):
        return node.body
    return below[int(place)] if place.isdecimal() and int(place) < len(below) else None
