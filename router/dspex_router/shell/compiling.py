"""Definitions to plans at the edge: waits a little for workers that are just starting, and compiles equal things
once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Literal

import anyio

from dspex_bus.errors import InvalidPipeline, NoWorkers
from dspex_bus.wire import PipelineDefinition, Plan

from ..plan import Catalog, Reference, compile_pipeline, digest_of
from .config import RouterConfig
from .presence import Presence
from .remembered import Remembered

_KEPT = 1024
Durability = Literal["stored", "none"]
Definitions = Mapping[Reference, PipelineDefinition]
Key = tuple[str, frozenset[str], Durability, frozenset[tuple[Reference, str]]]
"""What a plan depends on: the definition, the input's fields, whether the run is stored, and the pipelines within."""


class Compiling:
    def __init__(self, config: RouterConfig, presence: Presence) -> None:
        self._config = config
        self._presence = presence
        self._digest = Remembered(digest_of)
        self._plans: dict[Key, Plan] = {}
        self._catalog: Catalog | None = None

    async def plan(
        self, definition: PipelineDefinition, fields: Collection[str], durability: Durability, within: Definitions
    ) -> Plan:
        """The plan on what is there now. NoWorkers only after ``workers_grace_s`` without the pool's first worker,
        and as long is waited for a handler that was there a moment ago."""
        versions = frozenset((reference, self._digest(found)) for reference, found in within.items())
        key = (self._digest(definition), frozenset(fields), durability, versions)
        with suppress(NoWorkers, InvalidPipeline):
            return self._compiled(key, definition, within)
        # Something is missing. It is told below what it is, unless it comes.
        with anyio.move_on_after(self._config.workers_grace_s):
            while True:
                changed = self._presence.next_change()
                try:
                    return self._compiled(key, definition, within)
                except (NoWorkers, InvalidPipeline) as error:
                    if not self._presence.is_on_its_way(error):
                        raise
                    await self._presence.call_roll()
                    await changed.wait()
        return self._compiled(key, definition, within)

    def _compiled(self, key: Key, definition: PipelineDefinition, within: Definitions) -> Plan:
        if self._catalog is not self._presence.catalog or len(self._plans) > _KEPT:
            self._plans.clear()
            self._catalog = self._presence.catalog
        plan = self._plans.get(key)
        if plan is None:
            plan = compile_pipeline(
                definition, self._catalog, input_fields=key[1], durability=key[2], definitions=within
            )
            self._plans[key] = plan
        return plan
