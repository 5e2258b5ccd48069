"""A bus in memory: for unit tests. It passes the conformance suite of the real one, and knows nothing of disks and
networks."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from types import TracebackType
from typing import Any, Self

from .._headers import EXPECTED_LAST
from .._mailbox import Mailbox
from .._service import Service
from .._tasks import Tasks
from .._waiting import tell
from ..buckets import KeyValue, ObjectStore
from ..bus import (
    Bus,
    Consumer,
    Headers,
    Message,
    OnDelivery,
    OnMessage,
    OnStored,
    OnStoredMessage,
    Reader,
    ServiceSpec,
    Stored,
    StoredMessage,
    Subscription,
)
from ..clock import Clock
from ..errors import DeadlineExceeded, InvalidName, NotFound, PayloadTooLarge, StoreFailed, Unavailable
from ..streams import BucketSpec, StreamSpec
from .buckets import MemoryKeyValue, MemoryObjects
from .consumer import Durable, MemoryConsumer
from .server import MemoryServer, MemorySubscription
from .stream import Stream, Taken
from .subject import matches


class MemoryBus(Bus):
    """One client of a :class:`MemoryServer`; without one it has a server of its own."""

    def __init__(self, server: MemoryServer | None = None, *, name: str = "memory") -> None:
        self.server = server or MemoryServer()
        self.name = name
        self.clock = Clock()
        self._tasks = Tasks()
        self._open: list[Subscription] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for subscription in self._open:
            await subscription.close()
        await self._tasks.close()

    @property
    def connected(self) -> bool:
        return True

    @property
    def max_payload(self) -> int:
        return self.server.max_payload

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Memory is never out of reach."""

    def on_reconnect(self, callback: Callable[[], Awaitable[None]]) -> None:
        """It never comes back either."""

    def _check(self, subject: str, data: bytes, headers: Headers | None) -> None:
        if not subject or " " in subject or not subject.isprintable():
            raise InvalidName(f"{subject!r} cannot be a subject", details={"value": subject})
        lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        size = len(data) + (len(f"NATS/1.0\r\n{lines}\r\n".encode()) if lines else 0)
        if size > self.max_payload:
            raise PayloadTooLarge(
                f"{size:,} bytes for {subject}: at most {self.max_payload:,}",
                details={"size": size, "limit": self.max_payload},
            )

    async def publish(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: Headers | None = None
    ) -> None:
        self._check(subject, data, headers)
        self.server.publish(Message(subject, data, reply, headers))

    async def subscribe(self, subject: str, callback: OnMessage, *, queue: str = "") -> Subscription:
        subscription = MemorySubscription(self.server, subject, callback, queue, self._tasks)
        self._open.append(subscription)
        return subscription

    async def request(
        self, subject: str, data: bytes = b"", *, headers: Headers | None = None, timeout_s: float = 5.0
    ) -> Message:
        self._check(subject, data, headers)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        async def answered(message: Message) -> None:
            if not answer.done():
                answer.set_result(message)

        inbox = f"_INBOX.{uuid.uuid4().hex}"
        subscription = await self.subscribe(inbox, answered)
        try:
            if not self.server.publish(Message(subject, data, inbox, headers)):
                raise Unavailable(f"nobody listens on {subject}", code="no_responders")
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError as error:
            raise DeadlineExceeded(f"no answer on {subject} within {timeout_s:g} s") from error
        finally:
            await subscription.close()
            self._open.remove(subscription)

    async def serve(self, service: ServiceSpec) -> Subscription:
        serving = Service(self, service)
        await serving.open()
        return serving

    # --- stored ---

    async def prepare(self, streams: Sequence[StreamSpec], buckets: Sequence[BucketSpec]) -> None:
        self.server.prepare(streams, buckets)

    async def store(
        self,
        subject: str,
        data: bytes,
        *,
        headers: Headers | None = None,
        once: bool = False,
        then: OnStored | None = None,
    ) -> None:
        if once:
            headers = {**(headers or {}), EXPECTED_LAST: "0"}
        self._check(subject, data, headers)
        result = self._store(subject, data, headers)
        if then is not None:
            asyncio.get_running_loop().call_soon(tell, then, result, subject)

    def _store(self, subject: str, data: bytes, headers: Headers | None) -> Stored | Exception:
        stream = self.server.stream_of(subject)
        if stream is None:
            return StoreFailed(f"no stream keeps {subject}")
        try:
            return Stored(self.server.store(stream, subject, data, headers).sequence)
        except Taken:
            return Stored(0, created=False)

    def _stream(self, name: str) -> Stream:
        try:
            return self.server.streams[name]
        except KeyError:
            raise NotFound(f"there is no stream {name}") from None

    async def last(self, stream: str, subject: str) -> StoredMessage | None:
        held = self._stream(stream)
        return held.get(held.last_of(subject))

    async def history(self, stream: str, subject: str, *, after: int = 0) -> AsyncIterator[StoredMessage]:
        for message in list(self._stream(stream).select(subject, after)):
            yield message

    async def slots(self, stream: str, pattern: str) -> AsyncIterator[StoredMessage]:
        held = self._stream(stream)
        for message in list(held.select(pattern)):
            if message.sequence == held.last_of(message.subject):
                yield message

    async def read(
        self, stream: str, subjects: Sequence[str], callback: OnStoredMessage, *, after: int | None = None
    ) -> Reader:
        held = self._stream(stream)
        reader = MemoryReader(held, tuple(subjects), callback, after, self._tasks)
        self._open.append(reader)
        return reader

    async def consume(
        self, stream: str, durable: str, subject: str, callback: OnDelivery, *, ack_wait_s: float = 15.0
    ) -> Consumer:
        held = self._stream(stream)
        shared = self.server.durables.get((stream, durable))
        if shared is None:
            shared = self.server.durables[stream, durable] = Durable(held, subject, ack_wait_s)
        consumer = MemoryConsumer(shared, callback, self._tasks)
        self._open.append(consumer)
        return consumer

    async def schedule(
        self, subject: str, data: bytes, *, at_ms: int, target: str, headers: Headers | None = None
    ) -> None:
        self._check(subject, data, headers)
        stream = self.server.stream_of(subject)
        if stream is None:
            raise StoreFailed(f"no stream keeps {subject}")
        if not stream.spec.schedules or not stream.covers(target):
            raise StoreFailed(f"{stream.spec.name} schedules nothing for {target}", retryable=False)
        kept = self.server.store(stream, subject, data, headers).sequence

        def due() -> None:
            if stream.get(kept) is not None:
                stream.remove(kept)
                self.server.store(stream, target, data, headers)

        delay = max(0.0, at_ms / 1000 - time.time())
        asyncio.get_running_loop().call_later(delay, due)

    async def give_back(self, receipt: str) -> None:
        stream, _, sequence = receipt.rpartition(".")
        for (name, _durable), shared in self.server.durables.items():
            if name == stream and (held := shared.outstanding.get(int(sequence))):
                shared.again(held)

    def task_of(self, receipt: str) -> str:
        return receipt

    async def unclaimed(self, stream: str, durable: str, claimed: Collection[str]) -> dict[int, str]:
        shared = self.server.durables.get((stream, durable))
        if shared is None:
            raise NotFound(f"there is no consumer {durable} on {stream}")
        receipts = {sequence: f"{stream}.{sequence}" for sequence in shared.outstanding}
        return {sequence: receipt for sequence, receipt in receipts.items() if receipt not in claimed}

    async def purge(self, stream: str, subject: str, *, before: int | None = None) -> int:
        return self._stream(stream).purge(subject, before)

    async def stream_info(self, stream: str) -> dict[str, Any]:
        held = self._stream(stream)
        now_ms = self.clock.steady_ms()
        self.clock.told(now_ms, time.time_ns() / 1e6, now_ms)
        return {
            "messages": len(held),
            "bytes": held.size,
            "last_sequence": held.last_sequence,
            "consumers": sum(name == stream for name, _ in self.server.durables),
            "storage": held.spec.storage,
            "metadata": dict(held.spec.metadata),
        }

    async def consumer_info(self, stream: str, durable: str) -> dict[str, int]:
        shared = self.server.durables.get((stream, durable))
        if shared is None:
            raise NotFound(f"there is no consumer {durable} on {stream}")
        return {
            "pending": shared.pending,
            "oldest_wait_ms": shared.oldest_wait_ms,
            "ack_pending": len(shared.outstanding),
            "redelivered": shared.redelivered,
            "waiting": sum(member.wanted for member in shared.members),
        }

    def key_value(self, bucket: str) -> KeyValue:
        return MemoryKeyValue(self.server, bucket)

    def objects(self, bucket: str) -> ObjectStore:
        return MemoryObjects(self.server, bucket)


class MemoryReader(Reader):
    def __init__(
        self, stream: Stream, subjects: Sequence[str], callback: OnStoredMessage, after: int | None, tasks: Tasks
    ) -> None:
        self.start = self.last = stream.last_sequence if after is None else after
        self._stream = stream
        self._subjects = subjects
        self._callback = callback
        self._mailbox = Mailbox(self._hand_over, tasks, "reader")
        for message in stream.select(">", self.start):
            self._put(message)
        stream.followers.append(self._put)

    def _put(self, message: StoredMessage) -> None:
        if any(matches(pattern, message.subject) for pattern in self._subjects):
            self._mailbox.put(message)

    async def _hand_over(self, message: StoredMessage) -> None:
        self.last = message.sequence
        await self._callback(message)

    async def close(self) -> None:
        if self._put in self._stream.followers:
            self._stream.followers.remove(self._put)
            await self._mailbox.close()
