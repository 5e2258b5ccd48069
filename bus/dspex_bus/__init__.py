"""The contract of dspex's parts, and the bus they meet on.

Subjects, wire types, errors and signatures; the bus on NATS, the bus in memory, and an embedded server.
"""

from .bus import (
    Bus,
    Consumer,
    Delivery,
    Endpoint,
    Entry,
    KeyValue,
    Message,
    ObjectStore,
    Reader,
    Request,
    ServiceSpec,
    Stored,
    StoredMessage,
    Subscription,
)
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
