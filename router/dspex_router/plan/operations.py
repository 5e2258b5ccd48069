"""The execution router: which implementation runs an operation."""

from __future__ import annotations

from typing import Literal, NamedTuple

from dspex_bus.wire import Implementation

from .catalog import Catalog


class Choice(NamedTuple):
    """``why`` is one line a person can read."""

    pool: str
    handler: str
    implementation: Literal["native", "dspy"]
    why: str


def choose(operation: str, implementation: Implementation, catalog: Catalog, *, pool: str | None = None) -> Choice:
    """What runs ``operation``. Raises NotFound (code ``unknown_handler``), NoWorkers, or InvalidRequest (``ambiguous_pool``,
    ``implementation_unavailable``)."""
    raise NotImplementedError
