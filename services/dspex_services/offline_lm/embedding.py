"""Deterministic text vectors: hashed bags of words, so that texts that share words lie close. No weights."""

from __future__ import annotations

import hashlib
import math

from .words import terms

DIMENSIONS = 256


def embed(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """A vector of length 1, or of zeros when the text has no content words."""
    vector = [0.0] * dimensions
    for term in terms(text):
        digest = hashlib.blake2b(term.encode(), digest_size=8).digest()
        sign = 1.0 if digest[0] & 1 else -1.0
        vector[int.from_bytes(digest[1:], "big") % dimensions] += sign
    length = math.sqrt(sum(part * part for part in vector))
    return [part / length for part in vector] if length else vector
