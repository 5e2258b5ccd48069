"""A definition to a plan."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from dspex_bus.wire import PipelineDefinition, Plan

from .catalog import Catalog


def compile_pipeline(
    definition: PipelineDefinition,
    catalog: Catalog,
    *,
    input_fields: Collection[str] | None = None,
    durability: Literal["stored", "none"] = "stored",
) -> Plan:
    """The plan, with each step's pool and handler chosen. ``input_fields``: the run's input fields, None if not known yet.

    Raises InvalidPipeline for the first fault (``details["errors"]`` lists all of them), or NoWorkers where the only
    fault is that a pool has no ready worker.
    """
    raise NotImplementedError
