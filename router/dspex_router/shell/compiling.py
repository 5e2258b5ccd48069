"""Definitions to plans at the edge: waits a little for workers that are just starting, and compiles equal things
once."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import anyio

from dspex_bus.errors import NoWorkers
from dspex_bus.wire import PipelineDefinition, Plan

from ..plan import Catalog, compile_pipeline, digest_of
from .config import RouterConfig
from .presence import Presence

_KEPT = 1024
Durability = Literal["stored", "none"]


class Compiling:
    def __init__(self, config: RouterConfig, presence: Presence) -> None:
        self._config = config
        self._presence = presence
        self._plans: dict[tuple[str, frozenset[str], Durability], Plan] = {}
        self._catalog: Catalog | None = None

    async def plan(self, definition: PipelineDefinition, fields: Collection[str], durability: Durability) -> Plan:
        """The plan on what is there now. NoWorkers only after ``workers_grace_s`` without the pool's first worker."""
        with anyio.move_on_after(self._config.workers_grace_s):
            while True:
                changed = self._presence.next_change()
                try:
                    return self._compiled(definition, fields, durability)
                except NoWorkers:
                    await self._presence.call_roll()
                    await changed.wait()
        return self._compiled(definition, fields, durability)

    def _compiled(self, definition: PipelineDefinition, fields: Collection[str], durability: Durability) -> Plan:
        if self._catalog is not self._presence.catalog or len(self._plans) > _KEPT:
            self._plans.clear()
            self._catalog = self._presence.catalog
        key = (digest_of(definition), frozenset(fields), durability)
        plan = self._plans.get(key)
        if plan is None:
            plan = compile_pipeline(definition, self._catalog, input_fields=fields, durability=durability)
            self._plans[key] = plan
        return plan
