"""Keys: what kind of thing is kept, and a digest of all that it depends on."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

KINDS = ("lm", "step", "value")
"""Replies of models, outputs of steps, and what the ``cache`` handler was given."""

_canonical = msgspec.json.Encoder(order="deterministic").encode


def key(kind: str, *parts: Any) -> str:
    """The same for equal parts, in whatever order a mapping has its keys, in every process."""
    assert kind in KINDS
    return f"{kind}.{hashlib.blake2b(_canonical(parts), digest_size=16).hexdigest()}"
