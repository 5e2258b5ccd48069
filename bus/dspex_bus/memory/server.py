"""What several in-memory buses share: subscriptions and what is stored."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from .._tasks import Tasks
from ..bus import Headers, Message, OnMessage, StoredMessage, Subscription
from ..streams import BucketSpec, StreamSpec
from .consumer import Durable
from .stream import Stream, republished
from .subject import matches

MAX_PAYLOAD = 1024 * 1024


class MemoryServer:
    """Stands where a nats-server would, in one event loop. Buses on the same one see each other."""

    def __init__(self, *, max_payload: int = MAX_PAYLOAD) -> None:
        self.max_payload = max_payload
        self.subscriptions: list[MemorySubscription] = []
        self.streams: dict[str, Stream] = {}
        self.durables: dict[tuple[str, str], Durable] = {}
        self.buckets: dict[str, BucketSpec] = {}
        self.objects: dict[tuple[str, str], bytes] = {}
        self._turns: dict[tuple[str, str], int] = {}

    def prepare(self, streams: Sequence[StreamSpec], buckets: Sequence[BucketSpec]) -> None:
        for spec in streams:
            self.streams.setdefault(spec.name, Stream(spec))
        for bucket in buckets:
            self.buckets.setdefault(bucket.name, bucket)
            spec = StreamSpec(name=f"KV_{bucket.name}", subjects=(f"$KV.{bucket.name}.>",))
            self.streams.setdefault(spec.name, Stream(spec))

    def stream_of(self, subject: str) -> Stream | None:
        return next((stream for stream in self.streams.values() if stream.covers(subject)), None)

    def store(self, stream: Stream, subject: str, data: bytes, headers: Headers | None) -> StoredMessage:
        before = stream.last_of(subject)
        message = stream.store(subject, data, headers)
        said = republished(stream.spec, message, before)
        if said is not None:
            self.route(Message(said[0], data, headers=said[1]))
        return message

    def route(self, message: Message) -> int:
        """Hand the message to every plain subscriber and to one of each queue group; how many got it."""
        groups: dict[str, list[MemorySubscription]] = {}
        count = 0
        for subscription in self.subscriptions:
            if not matches(subscription.subject, message.subject):
                continue
            if subscription.queue:
                groups.setdefault(subscription.queue, []).append(subscription)
            else:
                subscription.put(message)
                count += 1
        for queue, members in groups.items():
            turn = self._turns.get((queue, message.subject), 0)
            self._turns[queue, message.subject] = turn + 1
            members[turn % len(members)].put(message)
        return count + len(groups)


@dataclass(eq=False)
class MemorySubscription(Subscription):
    """Callbacks run one at a time, in a task of the bus that subscribed."""

    server: MemoryServer
    subject: str
    callback: OnMessage
    queue: str = ""
    _arrived: deque[Message] = field(default_factory=deque)
    _task: asyncio.Task[None] | None = None
    _tasks: Tasks | None = None

    def open(self, tasks: Tasks) -> MemorySubscription:
        self._tasks = tasks
        self.server.subscriptions.append(self)
        return self

    def put(self, message: Message) -> None:
        self._arrived.append(message)
        if self._task is None and self._tasks is not None:
            self._task = self._tasks.start(self._deliver(), f"deliver {self.subject}")

    async def _deliver(self) -> None:
        try:
            while self._arrived:
                await self.callback(self._arrived.popleft())
        finally:
            self._task = None
            if self._arrived and self in self.server.subscriptions:
                self.put(self._arrived.popleft())

    async def close(self) -> None:
        if self in self.server.subscriptions:
            self.server.subscriptions.remove(self)
        self._arrived.clear()
        task = self._task
        if task is not None and task is not asyncio.current_task():
            await asyncio.wait([task], timeout=2)
