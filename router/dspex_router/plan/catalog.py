"""What live workers offer, as a value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dspex_bus.wire import HandlerInfo, WorkerPresence


@dataclass(frozen=True, slots=True)
class Catalog:
    """``pools`` maps each pool with a ready worker to its handlers by name."""

    pools: Mapping[str, Mapping[str, HandlerInfo]]

    @classmethod
    def of(cls, presences: Iterable[WorkerPresence]) -> Catalog:
        """From workers' announcements. Those draining or leaving take no new work and do not count."""
        pools: dict[str, dict[str, HandlerInfo]] = {}
        for presence in sorted(presences, key=lambda presence: presence.started_ms):
            if presence.state == "ready":
                pools.setdefault(presence.pool, {}).update((info.name, info) for info in presence.handlers)
        return cls(pools)
