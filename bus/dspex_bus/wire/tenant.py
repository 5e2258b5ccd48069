"""What the bucket ``dspex_tenants`` holds: under ``limit.<tenant>`` what a tenant's runs may use together, under
``used.<tenant>`` what they have used."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from .definition import Budget
from .journal import Usage

Per = Literal["day", "month", "total"]


class TenantLimit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Days and months are UTC's."""

    budget: Budget
    per: Per = "total"


class TenantHold(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker has set aside for calls in flight, and until when unless it says so again."""

    tokens: int = 0
    cost: float = 0.0
    until_ms: int


class TenantUsage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``period`` is the day or month that is counted (``2026-11-25``, ``2026-11``), '' where nothing ends it. When
    another begins, the count does too. ``held`` is what workers hold of the limit, by worker."""

    usage: Usage
    period: str = ""
    held: dict[str, TenantHold] = field(default_factory=dict)
