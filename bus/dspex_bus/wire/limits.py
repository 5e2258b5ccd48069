"""Limits: how many steps that share a key may run at once, and how many may start in a second."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from .definition import LimitName


class LimitDefinition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """``concurrency`` steps at once, from being sent to a pool until their outcome; ``per_second`` started on average,
    ``burst`` (default: one second's) at once. Steps name it in ``limits``; those of a run for a tenant have the limit
    ``tenant.<tenant>`` too."""

    name: LimitName
    concurrency: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    per_second: Annotated[float, Meta(ge=1e-6, le=1_000_000)] | None = None
    burst: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    description: str = ""


class LimitView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``held`` counts the steps that have a permit now."""

    definition: LimitDefinition
    held: int = 0


class LimitPut(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For ``limit.put``: holds for whatever is sent from then on."""

    definition: LimitDefinition


class LimitRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For ``limit.delete``."""

    name: LimitName


class LimitList(Struct, frozen=True, kw_only=True):
    """For ``limit.list`` (the request is empty)."""

    limits: tuple[LimitView, ...]
