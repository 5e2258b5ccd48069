"""Where the server is, and a connection to it."""

from __future__ import annotations

import os
from typing import Any

from dspex_bus import NatsBus

DEFAULT_SERVER = "nats://127.0.0.1:4222"


def server_url(server: str | None = None) -> str:
    """``server``, else the environment's ``DSPEX_SERVER``, else the default port on this machine."""
    return server or os.environ.get("DSPEX_SERVER") or DEFAULT_SERVER


def open_bus(server: str | None = None, *, name: str, **options: Any) -> NatsBus:
    return NatsBus(server_url(server), name=name, **options)
