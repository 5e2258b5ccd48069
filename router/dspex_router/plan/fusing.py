"""Which steps of a sequence travel together."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from dspex_bus.wire import Node, TaskNode

MOST = 128
"""Steps in one task: what is lost with a worker is run again, and what came of them must fit into one message."""


def fused(nodes: Sequence[Node], able: Collection[str], leading: Collection[str]) -> tuple[Node, ...]:
    """The nodes of a sequence, those that may travel with their neighbours marked with how many follow along. ``able``
    are the ids of those that may, ``leading`` of those that may do so only as the first."""
    marked: list[Node] = []
    pool, follow = "", 0
    for node in reversed(nodes):
        if isinstance(node, TaskNode) and (node.id in able or node.id in leading):
            follow = min(follow + 1, MOST - 1) if node.pool == pool else 0
            pool = node.pool if node.id in able else ""
            node = replace(node, fuse=follow)
        else:
            pool = ""
        marked.append(node)
    return tuple(reversed(marked))
