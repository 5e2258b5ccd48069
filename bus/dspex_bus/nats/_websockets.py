"""nats-py imports aiohttp with itself, for websockets alone. That is a third of all that a worker imports before it is
ready, so it is imported where an address wants it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable

_NAME = "aiohttp"


def import_nats() -> None:
    if _NAME in sys.modules or "nats" in sys.modules:
        return
    sys.modules[_NAME] = None  # type: ignore[assignment]  # what Python documents for "this import fails"
    try:
        importlib.import_module("nats.aio.client")
    finally:
        del sys.modules[_NAME]


def allow(urls: Iterable[str]) -> None:
    """Before connecting."""
    if any(url.startswith(("ws://", "wss://")) for url in urls):
        setattr(importlib.import_module("nats.aio.transport"), _NAME, importlib.import_module(_NAME))
