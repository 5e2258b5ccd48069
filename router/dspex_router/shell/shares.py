"""Who owns which partitions: a function of who is there, so that nobody need be asked. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Collection


def shares(partitions: int, members: Collection[str]) -> dict[str, frozenset[int]]:
    """Each member's partitions: even to within one, the same wherever it is computed, and mostly the same as before
    when a member comes or goes (each partition prefers members in an order of its own)."""
    taken: dict[str, set[int]] = {member: set() for member in members}
    if not taken:
        return {}
    fair, larger = divmod(partitions, len(taken))
    for partition in range(partitions):
        for member in sorted(taken, key=lambda name: (_preference(partition, name), name)):
            held = len(taken[member])
            if held < fair or (held == fair and larger > 0):
                larger -= held == fair
                taken[member].add(partition)
                break
    return {member: frozenset(held) for member, held in taken.items()}


def _preference(partition: int, member: str) -> int:
    return zlib.crc32(f"{partition}.{member}".encode())
