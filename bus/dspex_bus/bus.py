"""What the rest of dspex asks of a message bus: the seam between deciding and I/O.

Two implementations pass one conformance suite: ``NatsBus`` (the real thing) and ``MemoryBus`` (for unit tests).
All callbacks run on the event loop and must be short: they decide and hand over; they never wait for work.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from msgspec import Struct

from .buckets import KeyValue, ObjectStore
from .clock import Clock
from .streams import BucketSpec, StreamSpec

Headers = Mapping[str, str]
_CLOSE_S = 2.0


class Message(Struct):
    """A message as it came. ``reply`` is '' where no answer is expected."""

    subject: str
    data: bytes
    reply: str = ""
    headers: Headers | None = None


class StoredMessage(Struct):
    """A message a stream holds. ``time_ms`` is when it was stored, milliseconds since the epoch."""

    subject: str
    data: bytes
    headers: Headers | None
    sequence: int
    time_ms: int


class Stored(Struct, frozen=True):
    """``created`` is False where the slot was filled already; ``sequence`` is then 0: read the slot to see by what."""

    sequence: int
    created: bool = True


OnMessage = Callable[[Message], Awaitable[None]]
OnStoredMessage = Callable[[StoredMessage], Awaitable[None]]
OnStored = Callable[["Stored | Exception"], None]


class Delivery(ABC):
    """A stored task in the hands of one worker. ``sequence`` is its place in the stream, ``time_ms`` when it was
    stored, by the server's clock. ``deliveries`` is 1 the first time. ``receipt`` is what somebody else needs to give
    it back, see :meth:`Bus.give_back`."""

    subject: str
    data: bytes
    headers: Headers | None
    deliveries: int
    receipt: str
    sequence: int
    time_ms: int

    @abstractmethod
    async def ack(self) -> None:
        """Done: the stream may forget it. Not confirmed by the server."""

    @abstractmethod
    async def nak(self, delay_s: float = 0.0) -> None:
        """Give it back, to be delivered again after ``delay_s`` seconds."""

    @abstractmethod
    async def in_progress(self) -> None:
        """Still at it: the ack wait starts anew."""


OnDelivery = Callable[[Delivery], Awaitable[None]]


class Subscription(ABC):
    @abstractmethod
    async def close(self) -> None:
        """No callback starts after this returns. Safe to call twice."""


class Reader(Subscription):
    """An ordered, gap-free, ack-none reader of a stream. What is at or below ``start`` is not handed over, and must be
    read with :meth:`Bus.history`; ``last`` is the sequence up to which everything has been. A stream that was lost and
    made anew is read from its start."""

    start: int
    last: int


class Consumer(Subscription):
    """A worker's share of a pool's durable pull consumer."""

    @abstractmethod
    async def want(self, count: int) -> None:
        """Deliver ``count`` more tasks, whenever they come. Requests are kept standing and renewed by the bus; a
        reconnect or a lost consumer is mended without the caller's help."""

    @abstractmethod
    async def pause(self) -> None:
        """Want nothing any more, until the next ``want``; tasks already delivered can still be acknowledged."""

    async def finish(self) -> None:
        """Want nothing any more, but take what is on its way, before this returns: given back, it would have cost the
        task a delivery."""
        await self.pause()


class Request(ABC):
    """A request to an endpoint we serve."""

    __slots__ = ("data", "headers", "reply", "subject")
    subject: str
    data: bytes
    headers: Headers | None
    reply: str

    @abstractmethod
    async def respond(self, data: bytes, headers: Headers | None = None) -> None:
        """Nothing is sent where no answer is expected."""

    @abstractmethod
    async def respond_error(self, status: int, description: str, data: bytes, headers: Headers | None = None) -> None:
        """With the NATS service headers ``Nats-Service-Error-Code`` and ``Nats-Service-Error``."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """``handle`` should return at once (hand over to a task): it sees one request at a time. What it raises is answered
    as an ``internal`` error."""

    name: str
    subject: str
    handle: Callable[[Request], Awaitable[None]]
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """Visible to ``$SRV.PING/INFO/STATS``. Replicas of one ``name`` share its endpoints through ``queue``."""

    name: str
    version: str
    description: str
    endpoints: Sequence[Endpoint]
    queue: str
    metadata: Mapping[str, str] = field(default_factory=dict)


class Bus(ABC):
    """Entered with ``async with``. Every wait is bounded; lost connections are mended in the background."""

    name: str
    clock: Clock
    """Told the time whenever a stream is asked about."""

    @property
    @abstractmethod
    def connected(self) -> bool: ...

    @property
    @abstractmethod
    def max_payload(self) -> int:
        """Bytes a message may have, headers included. More raises PayloadTooLarge."""

    @abstractmethod
    def on_lost(self, callback: Callable[[], None]) -> None:
        """Called when the connection is found to be lost: what is said from then on, and may have been a little before,
        is not heard."""

    @abstractmethod
    def on_reconnect(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Called after every return of a lost connection (the server may have been restarted in between)."""

    # --- said, not stored ---

    @abstractmethod
    async def publish(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: Headers | None = None
    ) -> None: ...

    @abstractmethod
    async def subscribe(self, subject: str, callback: OnMessage, *, queue: str = "") -> Subscription:
        """Callbacks run one at a time per subscription. With ``queue``, each message goes to one
        subscriber of the group."""

    @asynccontextmanager
    async def subscribed(self, subject: str, callback: OnMessage) -> AsyncIterator[None]:
        """:meth:`subscribe` for as long as the block takes, whatever ends it."""
        subscription = await self.subscribe(subject, callback)
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(_CLOSE_S):
                await subscription.close()

    @abstractmethod
    async def request(
        self, subject: str, data: bytes = b"", *, headers: Headers | None = None, timeout_s: float = 5.0
    ) -> Message:
        """The first answer. Raises Unavailable (code ``no_responders``) at once where nobody listens, DeadlineExceeded,
        or Disconnected as soon as the connection is lost. An error answer is an answer: the caller
        looks at its headers."""

    @abstractmethod
    async def serve(self, service: ServiceSpec) -> Subscription: ...

    # --- stored ---

    @abstractmethod
    async def prepare(self, streams: Sequence[StreamSpec], buckets: Sequence[BucketSpec]) -> None:
        """Make what is absent, migrate what differs, keep what is there. Idempotent and safe to run at the same time
        from several processes."""

    @abstractmethod
    async def store(
        self,
        subject: str,
        data: bytes,
        *,
        headers: Headers | None = None,
        once: bool = False,
        then: OnStored | None = None,
    ) -> None:
        """Publish into the stream of ``subject`` and call ``then`` with the result when the server has answered.

        With ``once`` the subject is a create-once slot, and the message is published again on silence or reconnection
        until the server answers, then with the header ``Dspex-Resent``. Without it, silence is reported as
        DeadlineExceeded, and a connection lost meanwhile as Disconnected. Returns when the message is handed to the
        connection, not when stored."""

    async def store_and_wait(
        self,
        subject: str,
        data: bytes,
        *,
        headers: Headers | None = None,
        once: bool = False,
        expect: int | None = None,
        timeout_s: float = 5.0,
    ) -> Stored:
        """Like :meth:`store`, but waits for the result; raises what went wrong. With ``expect`` it is stored where the
        newest message on the subject has that sequence, 0 for none."""
        from ._headers import EXPECTED_LAST
        from ._waiting import store_and_wait

        if expect is not None:
            headers = {**(headers or {}), EXPECTED_LAST: str(expect)}
        return await store_and_wait(self, subject, data, headers=headers, once=once, timeout_s=timeout_s)

    @abstractmethod
    async def schedule(
        self, subject: str, data: bytes, *, at_ms: int, target: str, headers: Headers | None = None
    ) -> None:
        """Store on ``subject`` until ``at_ms`` (since the epoch), when the server stores it on ``target``, in the same
        stream."""

    @abstractmethod
    async def last(self, stream: str, subject: str) -> StoredMessage | None:
        """The newest message on exactly ``subject``: what a slot holds."""

    @abstractmethod
    def history(self, stream: str, subject: str, *, after: int = 0) -> AsyncIterator[StoredMessage]:
        """What the stream holds now on a subject or pattern, with a sequence above ``after``, oldest first."""

    @abstractmethod
    def slots(self, stream: str, pattern: str) -> AsyncIterator[StoredMessage]:
        """Of every subject that matches the newest message, oldest first: what :meth:`history` gives of create-once
        slots, but found by their subjects and not by a search through the stream."""

    @abstractmethod
    async def read(
        self, stream: str, subjects: Sequence[str], callback: OnStoredMessage, *, after: int | None = None
    ) -> Reader:
        """Follow a stream: with ``after`` from the sequence following it, else from what comes next."""

    @abstractmethod
    async def consume(
        self,
        stream: str,
        durable: str,
        subject: str,
        callback: OnDelivery,
        *,
        ack_wait_s: float = 15.0,
    ) -> Consumer:
        """Join (and make if absent) the shared durable consumer of ``subject``. Nothing comes before ``want``."""

    @abstractmethod
    async def give_back(self, receipt: str) -> None:
        """Have a task delivered again that was delivered to somebody who is dead. Harmless where it is done already."""

    @abstractmethod
    def task_of(self, receipt: str) -> str:
        """What the receipts of all deliveries of one task have in common, as a key."""

    @abstractmethod
    async def unclaimed(self, stream: str, durable: str, claimed: Collection[str]) -> dict[int, str]:
        """Receipts, by sequence, of tasks that are delivered and not acknowledged, without those whose receipts are
        given: deliveries of which nobody knows."""

    @abstractmethod
    async def purge(self, stream: str, subject: str, *, before: int | None = None) -> int:
        """Remove every message on a subject or pattern, or those with a sequence below ``before``; how many."""

    @abstractmethod
    async def stream_info(self, stream: str) -> dict[str, Any]:
        """``messages``, ``bytes``, ``last_sequence``, ``consumers``, ``storage``, ``metadata``; NotFound if absent.
        ``clock`` is told what time it is."""

    @abstractmethod
    async def consumer_info(self, stream: str, durable: str) -> dict[str, int]:
        """``pending`` (stored, not delivered), ``oldest_wait_ms`` of these, ``ack_pending``, ``redelivered`` (delivered
        more than once and not acknowledged yet), ``waiting``; NotFound if absent."""

    @abstractmethod
    def key_value(self, bucket: str) -> KeyValue: ...

    @abstractmethod
    def objects(self, bucket: str) -> ObjectStore: ...
