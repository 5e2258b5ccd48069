"""Handlers that misbehave, each in its own way."""

from __future__ import annotations

import os
import time
from typing import Any

import anyio
import msgspec

import dspex

handlers = dspex.Handlers()


class Size(msgspec.Struct, frozen=True, kw_only=True):
    size: int


class Text(msgspec.Struct, frozen=True, kw_only=True):
    text: str


class Nothing(msgspec.Struct, frozen=True, kw_only=True):
    pass


@handlers.handler("rough.swell")
def swell(request: Size) -> Text:
    """Answer with more than a message holds."""
    return Text(text="x" * request.size)


@handlers.handler("rough.raise")
async def fail(request: Text) -> Text:
    raise ValueError(request.text)


@handlers.handler("rough.refuse")
async def refuse(request: Nothing) -> Nothing:
    raise dspex.StepError("come back tomorrow", code="not_today")


@handlers.handler("rough.hang")
async def hang(request: Nothing) -> Nothing:
    await anyio.sleep_forever()
    return request


@handlers.handler("rough.block")
def block(request: Nothing) -> Nothing:
    """Block a thread for longer than the step may take."""
    time.sleep(1.5)
    return request


@handlers.handler("rough.die")
async def die(request: Nothing) -> Nothing:
    os._exit(9)


@handlers.handler("rough.echo")
async def echo(request: Text) -> Text:
    return request


class Number(msgspec.Struct, frozen=True, kw_only=True):
    n: int
    by: int = 1


@handlers.handler("rough.add", pure=True)
async def add(request: Number) -> dict[str, int]:
    """Of no declared outputs, so that only the run tells what is missing."""
    return {"n": request.n + request.by, "was": request.n}


@handlers.handler("rough.count", pure=True)
def count(values: dict[str, Any]) -> dict[str, Any]:
    """In a thread, and of everything there is."""
    return {"names": sorted(values), "n": len(values)}


@handlers.handler("rough.odd", pure=True)
async def odd(request: Number) -> dict[str, Any]:
    """Fail for every third number, and be said to be worth another attempt for every ninth."""
    if request.n % 3 == 0:
        raise dspex.StepError(f"{request.n} is odd", code="odd", retryable=request.n % 9 == 0)
    return {"odd": False, "list": [request.n, {"n": request.n}]}


@handlers.handler("rough.measure", pure=True)
async def measure(request: Text) -> Size:
    return Size(size=len(request.text))


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    text: str


@handlers.handler("rough.wait_for_file")
async def wait_for_file(request: Gate) -> Text:
    """Wait until a test makes the file: a step that ends when the test wants it to."""
    while not await anyio.Path(request.path).exists():
        await anyio.sleep(0.01)
    return Text(text=request.text)


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    stamp: int


@handlers.handler("rough.stamp")
async def stamp(request: Nothing) -> Stamp:
    """Another one each time it runs."""
    return Stamp(stamp=time.monotonic_ns())


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    path: str


@handlers.handler("rough.once")
async def once(request: Tried) -> Nothing:
    """Fail the first time."""
    path = anyio.Path(request.path)
    if not await path.exists():
        await path.touch()
        raise dspex.StepError("the first time fails", code="first_time")
    return Nothing()
