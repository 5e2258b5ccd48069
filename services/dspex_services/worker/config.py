"""What a worker is told."""

from __future__ import annotations

import os
import secrets
import socket

import msgspec

from dspex_bus import names

MAX_DELIVERIES = 3
"""At this delivery a task is recorded as lost and not run, where two workers died of it (see deaths.py)."""

WAITING = 256
"""Direct calls that may wait for a slot."""


def _name() -> str:
    return f"{names.safe(socket.gethostname().split('.')[0][:24])}-{os.getpid()}-{secrets.token_hex(2)}"


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``slots`` bounds the stored tasks that run at once, and as much again the direct calls. ``waiting`` bounds direct
    calls that wait for a slot. ``ack_wait_s``: a worker silent that long has its tasks delivered again."""

    pool: str
    slots: int = 16
    waiting: int = WAITING
    ack_wait_s: float = 15.0
    drain_s: float = 10.0
    model: str = ""
    name: str = msgspec.field(default_factory=_name)
