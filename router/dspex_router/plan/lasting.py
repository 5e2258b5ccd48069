"""How long a run takes for certain, if it succeeds: what it sleeps."""

from __future__ import annotations

from dspex_bus.wire import LoopNode, Node, ParallelNode, PipelineNode, SequenceNode, SleepNode


def least_ms(node: Node) -> int:
    """Of a branch or a map nothing is certain."""
    match node:
        case SleepNode():
            return node.duration_ms
        case SequenceNode():
            return sum(map(least_ms, node.children))
        case ParallelNode():
            return _joined(node)
        case LoopNode():
            return least_ms(node.body)
        case PipelineNode():
            return least_ms(node.plan.root)
        case _:
            return 0


def _joined(node: ParallelNode) -> int:
    lengths, join = sorted(map(least_ms, node.children)), node.join
    match join.kind:
        case "any":
            return lengths[0]
        case "quorum":
            return lengths[join.quorum - 1]
        case _:
            return min(lengths[-1], join.timeout_ms or lengths[-1])
