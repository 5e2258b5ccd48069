"""What ``dspex cache`` asks of workers and says to them."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

CacheKind = Literal["", "lm", "step", "value"]


class CacheReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A worker's answer on ``dspex.v1.cache.report``: what its memory holds, and how its look-ups went since it
    started. ``joined`` waited for an equal call that was under way, ``renewed`` replaced what was about to expire."""

    worker: str
    entries: int = 0
    bytes: int = 0
    memory_hits: int = 0
    shared_hits: int = 0
    misses: int = 0
    joined: int = 0
    renewed: int = 0


class CacheClear(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Said on ``dspex.v1.cache.clear``: workers forget what their memory holds of this kind; of all kinds where it is
    empty."""

    kind: CacheKind = ""
