"""Handlers that end their process, or leave things behind in it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio

from dspex_services.handlers import Handlers, Step

handlers = Handlers()
kept: list[bytes] = []


@handlers.handler("echo")
async def echo(values: dict[str, Any]) -> dict[str, Any]:
    return {**values, "pid": os.getpid()}


@handlers.handler("hold")
async def hold(values: dict[str, Any], step: Step) -> dict[str, Any]:
    """Say that it begins, and wait for an answer."""
    await step.bus.request(values["tell"], str(os.getpid()).encode(), timeout_s=step.remaining_s)
    return {"pid": os.getpid()}


@handlers.handler("poison")
async def poison(values: dict[str, Any]) -> dict[str, Any]:
    """End the process, every time."""
    await anyio.sleep(0.2)
    os._exit(9)


@handlers.handler("slow")
async def slow(values: dict[str, Any]) -> dict[str, Any]:
    await anyio.sleep(0.5)
    return {"pid": os.getpid()}


@handlers.handler("die")
def die(values: dict[str, Any]) -> dict[str, Any]:
    """End the process the first time, in one way or another."""
    first = Path(values["first"])
    if not first.exists():
        first.touch()
        print(values.get("last_words", ""), file=sys.stderr, end="")
        match values["how"]:
            case "exit":
                os._exit(9)
            case "fault":
                ctypes.string_at(0)
            case "memory":  # as the kernel does when there is none left
                os.kill(os.getpid(), signal.SIGKILL)
    return {"pid": os.getpid()}


@handlers.handler("spawn")
def spawn(values: dict[str, Any]) -> dict[str, Any]:
    """Processes that would outlive us: one in our group, one in a session of its own, one without our environment."""
    sleep = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
    started = [
        subprocess.Popen(sleep),
        subprocess.Popen(sleep, start_new_session=True),
        subprocess.Popen(sleep, env={}),
    ]
    return {"pid": os.getpid(), "children": [child.pid for child in started]}


@handlers.handler("block")
def block(values: dict[str, Any]) -> dict[str, Any]:
    """A thread that goes on long after its step has timed out."""
    time.sleep(60)
    return {}


@handlers.handler("grow")
def grow(values: dict[str, Any]) -> dict[str, Any]:
    kept.append(b"x" * (values["mib"] * 2**20))
    return {"pid": os.getpid()}


@handlers.handler("environment")
def environment(values: dict[str, Any]) -> dict[str, Any]:
    return {name: os.environ.get(name) for name in values["names"]}
