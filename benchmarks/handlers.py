"""The step that does nothing: what is measured is everything around it."""

from __future__ import annotations

import msgspec

from dspex import Handlers

handlers = Handlers()


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    count: int


@handlers.handler("bench.noop")
async def noop(payload: Payload) -> Payload:
    """Count one more."""
    return Payload(text=payload.text, count=payload.count + 1)
