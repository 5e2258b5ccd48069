"""The contract of dspex's parts, and the bus they meet on.

Subjects, wire types, errors and signatures; the bus on NATS, the bus in memory, and an embedded server.
"""

from typing import TYPE_CHECKING

from .lazily import lazily

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

if TYPE_CHECKING:
    from .buckets import Entry, KeyValue, ObjectInfo, ObjectStore
    from .bus import (
        Bus,
        Consumer,
        Delivery,
        Endpoint,
        Message,
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
else:
    # A program that only writes pipelines, or a client that only decodes, pays for neither bus nor server.
    __getattr__, __dir__ = lazily(
        __name__,
        {
            ".buckets": "Entry, KeyValue, ObjectInfo, ObjectStore",
            ".bus": "Bus, Consumer, Delivery, Endpoint, Message, Reader, Request, ServiceSpec, Stored, StoredMessage, "
            "Subscription",
            ".memory": "MemoryBus, MemoryServer",
            ".nats": "NatsBus, connect",
            ".server": "EmbeddedServer, find_nats_server",
        },
    )
