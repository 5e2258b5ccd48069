"""What a definition is compiled to: a tree of nodes with stable ids, kept in the session's journal.

A node's id is its place in the tree (``2``, ``2-0``, ``2-0-1``): one subject token, the same on every replica.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from .definition import RetryPolicy


class TaskNode(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="task"):
    """One step on one pool. ``reads`` maps each field the step is sent to the dotted context path it comes from;
    those in ``optional`` are left out when the context lacks them. With ``reads_all`` it is sent the whole context.
    ``writes`` renames outputs. ``cache_ms`` 0: no cache."""

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
    retry: RetryPolicy


class SequenceNode(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="sequence"):
    id: str
    name: str
    children: tuple[Node, ...]


class ParallelNode(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="parallel"):
    """Children start together, each on the context as it was. Joined when all have ended, results in the order
    written; with ``on_error: fail`` the first failure abandons the others."""

    id: str
    name: str
    children: tuple[Node, ...]
    save_as: str | None = None
    on_error: Literal["fail", "collect"] = "fail"


Node = TaskNode | SequenceNode | ParallelNode


class Plan(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``digest`` names the definition's content: two equal definitions have the same."""

    pipeline: str
    digest: str
    root: SequenceNode
    output: tuple[str, ...] | None = None
