"""The bus on NATS: the parts of this package behind one class."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio

from .. import crashing
from .._headers import SCHEDULE, SCHEDULE_TARGET
from .._service import Service
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
from ..errors import DspexError, NotFound, Unavailable
from ..streams import BucketSpec, StreamSpec
from .connection import CONNECT_S, Connection
from .consumer import NatsConsumer, filtered, give_back, receipt_of, sequence_of, task_of
from .history import History
from .jetstream import JetStream, milliseconds
from .key_value import NatsKeyValue
from .objects import NatsObjects
from .publishing import Stores
from .reader import NatsReader
from .replies import Replies
from .streams import bucket_config, prepare, stream_config

logger = logging.getLogger("dspex.bus")

_Followed = TypeVar("_Followed", NatsReader, NatsConsumer)

_DRAIN_S = 3.0
_MEND_S = (0.1, 2.0)


class NatsBus(Bus):
    """A connection that lasts. ``server`` is a URL, or several with commas; entering waits ``connect_timeout_s`` for
    one, or, without ``patient``, raises at once where nothing listens.

    Raises Disconnected when no server answers, SetupError when one answers that cannot be used.
    """

    def __init__(
        self,
        server: str,
        *,
        name: str = "dspex",
        user: str | None = None,
        password: str | None = None,
        credentials: str | None = None,
        connect_timeout_s: float = CONNECT_S,
        patient: bool = True,
    ) -> None:
        self.name = name
        self.clock = Clock()
        self._connection = Connection(
            server,
            name,
            user=user,
            password=password,
            credentials=credentials,
            connect_timeout_s=connect_timeout_s,
            patient=patient,
        )
        self._replies = Replies(self._connection)
        self._jetstream = JetStream(self._replies)
        self._stores = Stores(self._connection, self._replies, self._repair)
        self._prepared: dict[str, dict[str, Any]] = {}
        self._history = History(self._replies, self._prepared)
        self._repairing = asyncio.Lock()
        self._repairs = 0
        self._mending: asyncio.Task[None] | None = None
        self._readers: set[NatsReader] = set()
        self._consumers: set[NatsConsumer] = set()
        self._on_reconnect: list[Callable[[], Awaitable[None]]] = []
        self._connection.when_back(self._back)

    async def __aenter__(self) -> Self:
        await self._connection.open()
        try:
            await self._replies.open()
        except BaseException:
            await self._connection.close()
            raise
        self._stores.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What has come is handed over, what was to be stored is stored, for a bounded time; then it is over."""
        # Whoever leaves because it is cancelled has said its last words too; each wait in here is bounded.
        with anyio.CancelScope(shield=True):
            for followed in (*self._readers, *self._consumers):
                await followed.close()
            await self._connection.drain()
            if self._connection.connected:
                await self._stores.drained(_DRAIN_S)
            await self._connection.close()

    @property
    def connected(self) -> bool:
        return self._connection.connected

    @property
    def max_payload(self) -> int:
        return self._connection.max_payload

    def on_lost(self, callback: Callable[[], None]) -> None:
        self._connection.when_lost(callback)

    def on_reconnect(self, callback: Callable[[], Awaitable[None]]) -> None:
        self._on_reconnect.append(callback)

    async def _back(self) -> None:
        if self._mending is not None:
            self._mending.cancel()
        self._mending = self._connection.tasks.start(self._mend(), f"{self.name}: mend")

    async def _mend(self) -> None:
        """A server that was restarted may have lost what it kept in memory: streams first, then what stands on them."""
        await self._repair_streams()
        for reader in self._opened(self._readers):
            reader.restart()
        for consumer in self._opened(self._consumers):
            consumer.restart()
        await self._stores.send_again()
        for callback in self._on_reconnect:
            try:
                await callback()
            except Exception:  # the others still have to hear of it
                logger.exception("%s: a callback for the connection's return failed", self.name)

    async def _repair_streams(self) -> None:
        wait = _MEND_S[0]
        while True:
            try:
                await self._repair()
                return
            except DspexError as error:
                logger.warning("%s: streams are not back yet: %s", self.name, error)
                if not error.retryable:
                    return
                await asyncio.sleep(wait)
                wait = min(2 * wait, _MEND_S[1])

    @staticmethod
    def _opened(followed: set[_Followed]) -> set[_Followed]:
        """Those still open; the others are forgotten."""
        followed -= {one for one in followed if one.closed}
        return followed

    # --- said, not stored ---

    async def publish(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: Headers | None = None
    ) -> None:
        crashing.before("say", subject)
        await self._connection.publish(subject, data, reply, headers)
        crashing.sent("say", subject, self._connection.flush)

    async def subscribe(self, subject: str, callback: OnMessage, *, queue: str = "") -> Subscription:
        subscription = await self._connection.subscribe(subject, callback, queue)
        try:
            await self._connection.confirm(subscription.route)
        except BaseException:
            await subscription.close()
            raise
        return subscription

    async def request(
        self, subject: str, data: bytes = b"", *, headers: Headers | None = None, timeout_s: float = 5.0
    ) -> Message:
        return await self._replies.request(subject, data, headers, timeout_s)

    async def serve(self, service: ServiceSpec) -> Subscription:
        serving = Service(self, service)
        await serving.open()
        return serving

    # --- stored ---

    async def prepare(self, streams: Sequence[StreamSpec], buckets: Sequence[BucketSpec]) -> None:
        for config in (*map(stream_config, streams), *map(bucket_config, buckets)):
            self._prepared[config["name"]] = config
        async with self._repairing:
            await self._prepare_all()

    async def _repair(self) -> None:
        """Many may find out at once that a stream is gone: it is made once."""
        before = self._repairs
        async with self._repairing:
            if self._repairs == before:
                await self._prepare_all()

    async def _prepare_all(self) -> None:
        for config in list(self._prepared.values()):
            await prepare(self._jetstream, config)
        self._repairs += 1

    async def store(
        self,
        subject: str,
        data: bytes,
        *,
        headers: Headers | None = None,
        once: bool = False,
        then: OnStored | None = None,
    ) -> None:
        await self._stores.store(subject, data, headers, once, then)

    async def _store(self, subject: str, data: bytes, headers: dict[str, str]) -> Stored:
        return await self.store_and_wait(subject, data, headers=headers)

    async def schedule(
        self, subject: str, data: bytes, *, at_ms: int, target: str, headers: Headers | None = None
    ) -> None:
        when = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        scheduled = {**(headers or {}), SCHEDULE: f"@at {when}", SCHEDULE_TARGET: target}
        await self.store_and_wait(subject, data, headers=scheduled)

    async def last(self, stream: str, subject: str) -> StoredMessage | None:
        return await self._history.last(stream, subject)

    def history(self, stream: str, subject: str, *, after: int = 0) -> AsyncIterator[StoredMessage]:
        return self._history.read(stream, subject, after)

    def slots(self, stream: str, pattern: str) -> AsyncIterator[StoredMessage]:
        return self._history.slots(stream, pattern)

    async def read(
        self, stream: str, subjects: Sequence[str], callback: OnStoredMessage, *, after: int | None = None
    ) -> Reader:
        reader = NatsReader(self._connection, self._jetstream, stream, subjects, callback, after)
        await reader.open()
        self._opened(self._readers).add(reader)
        return reader

    async def consume(
        self, stream: str, durable: str, subject: str, callback: OnDelivery, *, ack_wait_s: float = 15.0
    ) -> Consumer:
        consumer = NatsConsumer(self._connection, self._jetstream, stream, durable, subject, callback, ack_wait_s)
        await consumer.open()
        self._opened(self._consumers).add(consumer)
        return consumer

    async def give_back(self, receipt: str) -> None:
        await give_back(self._connection, receipt)
        await self._connection.flush()

    def task_of(self, receipt: str) -> str:
        return task_of(receipt)

    async def unclaimed(self, stream: str, durable: str, claimed: Collection[str]) -> dict[int, str]:
        answer = await self._jetstream.ask(f"CONSUMER.INFO.{stream}.{durable}")
        if not answer["num_ack_pending"]:
            return {}
        known, delivered = set(map(sequence_of, claimed)), answer["delivered"]
        found = {}
        async for message in self._history.read(stream, filtered(answer["config"]), 0):
            if message.sequence > delivered["stream_seq"]:
                break
            if message.sequence not in known:
                found[message.sequence] = receipt_of(stream, durable, message.sequence, delivered["consumer_seq"])
        return found

    async def purge(self, stream: str, subject: str, *, before: int | None = None) -> int:
        crashing.before("purge", subject)
        asked = {"filter": subject} if before is None else {"filter": subject, "seq": before}
        answer = await self._jetstream.ask(f"STREAM.PURGE.{stream}", asked)
        crashing.after("purge", subject)
        return int(answer.get("purged", 0))

    async def stream_info(self, stream: str) -> dict[str, Any]:
        asked_ms = self.clock.steady_ms()
        try:
            answer = await self._jetstream.ask(f"STREAM.INFO.{stream}")
        except NotFound as error:
            if stream in self._prepared:
                raise Unavailable(f"the stream {stream} is not back yet") from error
            raise
        if "ts" in answer:
            self.clock.told(asked_ms, milliseconds(answer["ts"]), self.clock.steady_ms())
        state = answer["state"]
        return {
            "messages": state["messages"],
            "bytes": state["bytes"],
            "last_sequence": state["last_seq"],
            "consumers": state["consumer_count"],
            "storage": answer["config"]["storage"],
            "metadata": answer["config"].get("metadata", {}),
        }

    async def consumer_info(self, stream: str, durable: str) -> dict[str, int]:
        answer = await self._jetstream.ask(f"CONSUMER.INFO.{stream}.{durable}")
        return {
            "pending": answer["num_pending"],
            "oldest_wait_ms": await self._oldest_wait_ms(stream, answer) if answer["num_pending"] else 0,
            "ack_pending": answer["num_ack_pending"],
            "redelivered": answer["num_redelivered"],
            "waiting": answer["num_waiting"],
        }

    async def _oldest_wait_ms(self, stream: str, consumer: dict[str, Any]) -> int:
        """By the server's own clock."""
        after = consumer["delivered"]["stream_seq"]
        oldest = await self._history.first(stream, filtered(consumer["config"]), after)
        return max(0, milliseconds(consumer["ts"]) - oldest.time_ms) if oldest else 0

    def key_value(self, bucket: str) -> KeyValue:
        return NatsKeyValue(self._jetstream, self._history, self._store, bucket)

    def objects(self, bucket: str) -> ObjectStore:
        return NatsObjects(self._jetstream, self._history, self._store, bucket)


def connect(server: str, **options: Any) -> NatsBus:
    """A bus to enter: ``async with connect("nats://127.0.0.1:4222") as bus``."""
    return NatsBus(server, **{"name": f"dspex-{uuid.uuid4().hex[:6]}", **options})
