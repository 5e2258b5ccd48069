"""The steps of the chaos tests: each execution does as it is told, and leaves a line of its own behind."""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import time
from pathlib import Path

import anyio
import msgspec

import dspex

from .history import DAMAGED, Execution

LOG = "DSPEX_TEST_EXECUTIONS"
"""Names the file that executions are written to."""

handlers = dspex.Handlers()


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """``script`` says what each attempt does, its last word all later ones: ``ok``, ``fail`` (to be tried again),
    ``refuse`` (not to be), ``hang``, or ``die``, which takes the worker with it. Before that it works ``work_s``.
    ``under`` is the limit that its step is under."""

    script: tuple[str, ...] = ("ok",)
    work_s: float = 0.0
    under: str = ""


class Acted(msgspec.Struct, frozen=True, kw_only=True):
    token: str


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """What is too large for a message, and what it must be."""

    large: str
    digest: str


@handlers.handler("chaos.carry")
async def carry(request: Carried) -> Carried:
    if hashlib.sha256(request.large.encode()).hexdigest() != request.digest:
        raise dspex.StepError("not what was sent", code=DAMAGED)
    return request


@handlers.handler("chaos.act")
async def act(request: Act, step: dspex.Step) -> Acted:
    return await _act(request, step, along=False)


@handlers.handler("chaos.act_along", pure=True)
async def act_along(request: Act, step: dspex.Step) -> Acted:
    """The same, in steps that may travel together."""
    return await _act(request, step, along=True)


async def _act(request: Act, step: dspex.Step, *, along: bool) -> Acted:
    token = secrets.token_hex(6)
    # Not time.time(): tests make that jump.
    at_ms = time.clock_gettime_ns(time.CLOCK_REALTIME) // 1_000_000
    _note(Execution(step.session, step.node, step.attempt, at_ms, token, along, request.under))
    await anyio.sleep(request.work_s)
    match request.script[min(step.attempt, len(request.script)) - 1]:
        case "fail":
            raise dspex.StepError("told to fail", code="told_to_fail", retryable=True)
        case "refuse":
            raise dspex.StepError("told to refuse", code="told_to_refuse")
        case "hang":
            await anyio.sleep_forever()
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
    return Acted(token=token)


def _note(execution: Execution) -> None:
    """One write to the end of the file: lines of several processes do not mix."""
    file = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, msgspec.json.encode(execution) + b"\n")
    finally:
        os.close(file)


def executions(path: Path) -> list[Execution]:
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [msgspec.json.decode(line, type=Execution) for line in lines]
