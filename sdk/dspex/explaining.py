"""What a pipeline's steps, or an operation, would run on in a running system, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex_bus.errors import DspexError
from dspex_bus.wire import ErrorInfo, Implementation, PipelineDefinition, StepDefinition, error_info
from dspex_router.plan import (
    Catalog,
    Explained,
    Reference,
    compile_pipeline,
    explain,
    explain_step,
    references,
)

if TYPE_CHECKING:
    from .client import Client


class Explanation(NamedTuple):
    """``error`` is the first thing for which a run would be refused."""

    steps: tuple[Explained, ...]
    error: ErrorInfo | None = None


async def explain_pipeline(client: Client, definition: PipelineDefinition) -> Explanation:
    catalog, definitions = await _catalog(client), await _within(client, definition)
    steps = explain(definition, catalog, definitions=definitions)
    try:
        compile_pipeline(definition, catalog, definitions=definitions)
    except DspexError as error:
        return Explanation(steps, error_info(error))
    return Explanation(steps)


async def explain_call(
    client: Client, operation: str, constants: Mapping[str, Any], implementation: Implementation, pool: str | None
) -> Explanation:
    step = StepDefinition(call=operation, with_=dict(constants), implementation=implementation, pool=pool)
    found = explain_step(step, await _catalog(client), operation)
    return Explanation((found,), found.error)


async def _catalog(client: Client) -> Catalog:
    pools = (await client.pools()).pools
    return Catalog.of(worker for pool in pools for worker in pool.workers)


async def _within(client: Client, definition: PipelineDefinition) -> dict[Reference, PipelineDefinition]:
    """The stored pipelines that its steps run, and those that theirs do."""
    found: dict[Reference, PipelineDefinition] = {}
    wanted = references(definition)
    while wanted:
        reference = wanted.pop()
        if reference in found:
            continue
        view = await client.get_pipeline(reference.name, reference.version)
        assert view.definition is not None
        found[reference] = view.definition
        wanted |= references(view.definition)
    return found
