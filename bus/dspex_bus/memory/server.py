"""What several in-memory buses share: subscriptions and what is stored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from .._headers import EXPECTED_LAST, ROLLUP
from .._mailbox import Mailbox
from .._tasks import Tasks
from ..buckets import ObjectInfo
from ..bus import Headers, Message, OnMessage, StoredMessage, Subscription
from ..errors import SetupError
from ..streams import BucketSpec, StreamSpec, merged_metadata
from .consumer import Durable
from .stream import Stream, Taken, republished
from .subject import matches

MAX_PAYLOAD = 1024 * 1024
# What says how a message is to be stored is not stored with it.
_INSTRUCTIONS = frozenset({EXPECTED_LAST, ROLLUP})


class MemoryServer:
    """Stands where a nats-server would, in one event loop. Buses on the same one see each other."""

    def __init__(self, *, max_payload: int = MAX_PAYLOAD) -> None:
        self.max_payload = max_payload
        self.subscriptions: list[MemorySubscription] = []
        self.streams: dict[str, Stream] = {}
        self.durables: dict[tuple[str, str], Durable] = {}
        self.buckets: dict[str, BucketSpec] = {}
        self.objects: dict[tuple[str, str], tuple[bytes, ObjectInfo]] = {}
        self._turns: dict[tuple[str, str], int] = {}

    def prepare(self, streams: Sequence[StreamSpec], buckets: Sequence[BucketSpec]) -> None:
        for spec in streams:
            self._prepare(spec)
        for bucket in buckets:
            self.buckets[bucket.name] = bucket
            if bucket.largest is not None:
                continue
            self._prepare(
                StreamSpec(name=f"KV_{bucket.name}", subjects=(f"$KV.{bucket.name}.>",), storage=bucket.storage)
            )

    def _prepare(self, spec: StreamSpec) -> None:
        there = self.streams.get(spec.name)
        if there is None:
            self.streams[spec.name] = Stream(spec)
            return
        if (there.spec.storage, there.spec.work_queue) != (spec.storage, spec.work_queue):
            raise SetupError(f"the stream {spec.name} is another kind of stream than was asked for")
        there.spec = replace(spec, metadata=merged_metadata(there.spec.metadata, spec.metadata))

    def stream_of(self, subject: str) -> Stream | None:
        return next((stream for stream in self.streams.values() if stream.covers(subject)), None)

    def publish(self, message: Message) -> int:
        """Store the message where a stream keeps its subject, and hand it to who listens; how many took it."""
        stream = self.stream_of(message.subject)
        taken = self.route(message)
        if stream is None:
            return taken
        try:
            stored = self.store(stream, message.subject, message.data, message.headers)
        except Taken:
            answer: dict[str, object] = {
                "error": {"code": 400, "err_code": 10071, "description": "wrong last sequence"}
            }
        else:
            answer = {"stream": stream.spec.name, "seq": stored.sequence}
        if message.reply:
            self.route(Message(message.reply, json.dumps(answer).encode()))
        return taken + 1

    def store(self, stream: Stream, subject: str, data: bytes, headers: Headers | None) -> StoredMessage:
        """Taken where the headers expect another last message on the subject."""
        before = stream.last_of(subject)
        expected = (headers or {}).get(EXPECTED_LAST)
        if expected is not None and int(expected) != before:
            raise Taken
        kept = {name: value for name, value in (headers or {}).items() if name not in _INSTRUCTIONS}
        message = stream.store(subject, data, kept or None)
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


class MemorySubscription(Subscription):
    def __init__(self, server: MemoryServer, subject: str, callback: OnMessage, queue: str, tasks: Tasks) -> None:
        self.subject = subject
        self.queue = queue
        self._server = server
        self._mailbox = Mailbox(callback, tasks, f"subscription {subject}")
        server.subscriptions.append(self)

    def put(self, message: Message) -> None:
        self._mailbox.put(message)

    async def close(self) -> None:
        if self in self._server.subscriptions:
            self._server.subscriptions.remove(self)
            await self._mailbox.close()
