"""An ordered reader of a stream: a push consumer without acknowledgements, made anew whenever something is missing."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Sequence
from typing import Any

from ..bus import Message, OnStoredMessage, Reader, StoredMessage
from ..errors import DspexError
from .connection import Connection
from .jetstream import JetStream, nanoseconds
from .replies import status_of
from .subscription import LastingSubscription

logger = logging.getLogger("dspex.bus")

HEARTBEAT_S = 0.5
_SILENT_S = 4 * HEARTBEAT_S
_INACTIVE_S = 30.0
_RETRY_S = 0.25


class NatsReader(Reader):
    def __init__(
        self,
        connection: Connection,
        jetstream: JetStream,
        stream: str,
        subjects: Sequence[str],
        callback: OnStoredMessage,
        last: int,
    ) -> None:
        self.start = last
        self._connection = connection
        self._jetstream = jetstream
        self._stream = stream
        self._subjects = list(subjects)
        self._callback = callback
        self.last = last
        self._inbox = connection.new_inbox()
        self._consumer = ""
        self._delivered = 0
        self._heard = time.monotonic()
        self._broken = asyncio.Event()
        self._subscription: LastingSubscription | None = None
        self._closed = False

    async def open(self) -> None:
        self._subscription = await self._connection.subscribe(self._inbox, self._on_message)
        await self._create()
        self._task = self._connection.tasks.start(self._mend(), f"read {self._stream}")

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._task.cancel()
        if self._subscription is not None:
            await self._subscription.close()
        await self._delete(self._consumer)

    def restart(self) -> None:
        """Go on behind what was handed over last, with a new consumer."""
        self._consumer = ""
        self._broken.set()

    async def _create(self) -> None:
        name = f"reader-{uuid.uuid4().hex[:16]}"
        config = {
            "name": name,
            "deliver_subject": self._inbox,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self.last + 1,
            "ack_policy": "none",
            "filter_subjects": self._subjects,
            "replay_policy": "instant",
            "flow_control": True,
            "idle_heartbeat": nanoseconds(HEARTBEAT_S),
            "inactive_threshold": nanoseconds(_INACTIVE_S),
            "mem_storage": True,
            "num_replicas": 1,
            "max_deliver": 1,
        }
        self._consumer, self._delivered, self._heard = name, 0, time.monotonic()
        body = {"stream_name": self._stream, "config": config}
        await self._jetstream.ask(f"CONSUMER.CREATE.{self._stream}.{name}", body)

    async def _delete(self, name: str) -> None:
        if name and self._connection.connected:
            try:
                await self._jetstream.ask(f"CONSUMER.DELETE.{self._stream}.{name}", timeout_s=1)
            except DspexError as error:
                logger.debug("the consumer %s is left to expire: %s", name, error)

    async def _mend(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_SILENT_S / 2):
                    await self._broken.wait()
            except TimeoutError:
                if time.monotonic() - self._heard < _SILENT_S:
                    continue
            self._broken.clear()
            old, self._consumer = self._consumer, ""
            try:
                await self._delete(old)
                await self._create()
            except DspexError as error:
                logger.warning("reading %s again: %s", self._stream, error)
                await asyncio.sleep(_RETRY_S)
                self._broken.set()

    async def _on_message(self, message: Message) -> None:
        self._heard = time.monotonic()
        if not message.data and status_of(message) == "100":
            await self._on_control(message)
            return
        consumer, delivered, sequence, time_ms = _place(message.reply)
        if consumer != self._consumer:
            return
        if delivered != self._delivered + 1:
            logger.info("a gap in %s after %d: reading on from there", self._stream, self.last)
            self.restart()
            return
        self._delivered, self.last = delivered, sequence
        await self._callback(StoredMessage(message.subject, message.data, message.headers, sequence, time_ms))

    async def _on_control(self, message: Message) -> None:
        headers = message.headers or {}
        if message.reply:
            await self._connection.send(message.reply, b"", "", b"")
            return
        if stalled := headers.get("Nats-Consumer-Stalled"):
            await self._connection.send(stalled, b"", "", b"")
        if int(headers.get("Nats-Last-Consumer", 0)) > self._delivered and self._consumer:
            self.restart()


def _place(reply: str) -> tuple[str, int, int, int]:
    """Consumer, its sequence, the stream's sequence and the time stored, from ``$JS.ACK.…``."""
    parts: Any = reply.split(".")
    at = 2 if len(parts) < 11 else 4  # a domain and an account come first in the longer form
    return parts[at + 1], int(parts[at + 4]), int(parts[at + 3]), int(parts[at + 5]) // 1_000_000
