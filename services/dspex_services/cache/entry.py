"""What is kept, and when it is due to be made anew. Pure."""

from __future__ import annotations

import math

import msgspec

HURRY = 1.0
"""More renews earlier."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """``made`` and ``expires`` are seconds since the epoch; ``took`` is how long it was in the making."""

    value: bytes
    made: float
    expires: float
    took: float

    def expires_for(self, ttl_s: float) -> float:
        """When it is too old for somebody who wants it no older than that."""
        return min(self.expires, self.made + ttl_s)


def is_fresh(entry: Entry | None, ttl_s: float, now: float) -> bool:
    return entry is not None and now < entry.expires_for(ttl_s)


def is_due(entry: Entry, ttl_s: float, now: float, dice: float) -> bool:
    """Whether this caller, of many, should renew it: the likelier the closer it is to its end, and the longer it takes
    to make. ``dice`` is in (0, 1]."""
    return now - entry.took * HURRY * math.log(dice) >= entry.expires_for(ttl_s)


encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Entry)


def decode(data: bytes) -> Entry | None:
    """None for what another version of dspex wrote in another way."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:
        return None
