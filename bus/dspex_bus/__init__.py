"""The contract of dspex's parts, and the bus they meet on.

Subjects, wire types, errors and signatures; the bus on NATS, the bus in memory, and an embedded server.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .bus import (
    Bus,
    Consumer,
    Delivery,
    Endpoint,
    Entry,
    KeyValue,
    Message,
    ObjectInfo,
    ObjectStore,
    Reader,
    Request,
    ServiceSpec,
    Stored,
    StoredMessage,
    Subscription,
)

if TYPE_CHECKING:
    from .memory import MemoryBus, MemoryServer
    from .nats import NatsBus, connect
    from .server import EmbeddedServer, find_nats_server

__all__ = [
    "Bus",
    "Consumer",
    "Delivery",
    "EmbeddedServer",
    "Endpoint",
    "Entry",
    "KeyValue",
    "MemoryBus",
    "MemoryServer",
    "Message",
    "NatsBus",
    "ObjectInfo",
    "ObjectStore",
    "Reader",
    "Request",
    "ServiceSpec",
    "Stored",
    "StoredMessage",
    "Subscription",
    "connect",
    "find_nats_server",
]

# Imported at first use: a program that only writes pipelines, or a client that only decodes, pays for none of them.
_LAZY = {
    "EmbeddedServer": "server",
    "MemoryBus": "memory",
    "MemoryServer": "memory",
    "NatsBus": "nats",
    "connect": "nats",
    "find_nats_server": "server",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
