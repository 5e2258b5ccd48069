"""Steps that do nothing: what is measured is everything around them."""

from __future__ import annotations

import asyncio
import os

import msgspec

from dspex import Handlers, Step

BEGAN = "bench.began"

handlers = Handlers()


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    count: int


@handlers.handler("bench.noop", pure=True)
async def noop(payload: Payload) -> Payload:
    """Count one more."""
    return Payload(text=payload.text, count=payload.count + 1)


class Nothing(msgspec.Struct, frozen=True, kw_only=True):
    pass


@handlers.handler("bench.hold")
async def hold(nothing: Nothing, step: Step) -> Nothing:
    """Say that it begins, and wait for an answer."""
    await step.bus.request(BEGAN, str(os.getpid()).encode(), timeout_s=step.remaining_s)
    return nothing


class Slow(msgspec.Struct):
    seconds: float


@handlers.handler("bench.slow")
async def slow(request: Slow) -> dict[str, int]:
    """Waits so long, as a model would."""
    await asyncio.sleep(request.seconds)
    return {"slept": 1}
