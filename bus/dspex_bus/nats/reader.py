"""An ordered reader of a stream: a push consumer without acknowledgements, made anew whenever something is missing."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any

from ..bus import Message, OnStoredMessage, Reader, StoredMessage
from ..errors import DspexError, NotFound
from .connection import Connection
from .jetstream import JetStream, nanoseconds
from .replies import status_of
from .subscription import LastingSubscription

logger = logging.getLogger("dspex.bus")

HEARTBEAT_S = 0.5
_SILENT_S = 4 * HEARTBEAT_S
_INACTIVE_S = 30.0
_RETRY_S = 0.25
_STILL_S = 0.01


class NatsReader(Reader):
    def __init__(
        self,
        connection: Connection,
        jetstream: JetStream,
        stream: str,
        subjects: Sequence[str],
        callback: OnStoredMessage,
        after: int | None,
    ) -> None:
        self._connection = connection
        self._jetstream = jetstream
        self._stream = stream
        self._subjects = list(subjects)
        self._callback = callback
        self._after = after
        self._made = ""
        self._consumer = ""
        self._consumers: set[str] = set()
        self._delivered = 0
        self._broken = asyncio.Event()
        self._inside = False
        self._inbox: LastingSubscription | None = None
        self._closed = False

    async def open(self) -> None:
        self._made, last = await self._look()
        self.start = self.last = last if self._after is None else self._after
        try:
            await self._create()
        except BaseException as error:
            problem = error
        else:
            self._task = self._connection.tasks.start(self._mend(), f"read {self._stream}")
            return
        await self._hang_up()
        raise problem

    @property
    def closed(self) -> bool:
        return self._closed

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._task.cancel()
        await self._hang_up()
        await self._delete_consumers()

    def restart(self) -> None:
        """Go on behind what was handed over last, with a new consumer."""
        self._broken.set()

    async def _hang_up(self) -> None:
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            await inbox.close()

    async def _look(self) -> tuple[str, int]:
        """When the stream was made, and its last sequence."""
        answer = await self._jetstream.ask(f"STREAM.INFO.{self._stream}")
        return answer["created"], answer["state"]["last_seq"]

    async def _create(self) -> None:
        """A consumer and an inbox that no earlier one knows: those expire for want of a listener."""
        name = f"reader-{uuid.uuid4().hex[:16]}"
        self._consumer, self._delivered = name, 0
        self._consumers.add(name)
        subject = self._connection.new_inbox()
        self._inbox = await self._connection.subscribe(subject, partial(self._on_message, name))
        config = {
            "name": name,
            "deliver_subject": subject,
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
        body = {"stream_name": self._stream, "config": config}
        await self._jetstream.ask(f"CONSUMER.CREATE.{self._stream}.{name}", body)

    async def _delete_consumers(self) -> None:
        """All that were made. Those that cannot be reached now expire, or are deleted with the next."""
        for name in list(self._consumers):
            try:
                await self._jetstream.ask(f"CONSUMER.DELETE.{self._stream}.{name}", timeout_s=1)
            except NotFound:
                pass
            except DspexError as error:
                logger.debug("the consumer %s is left: %s", name, error)
                return
            self._consumers.discard(name)

    async def _mend(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_SILENT_S / 2):
                    await self._broken.wait()
            except TimeoutError:
                if self._inbox is not None and time.monotonic() - self._inbox.heard < _SILENT_S:
                    continue
            if not self._connection.connected:
                await asyncio.sleep(_RETRY_S)
                continue
            try:
                await self._start_anew()
            except DspexError as error:
                logger.warning("reading %s again: %s", self._stream, error)
                self._broken.set()
            else:
                continue
            await asyncio.sleep(_RETRY_S)

    async def _start_anew(self) -> None:
        self._consumer = ""
        self._broken.clear()
        await self._hang_up()
        await self._delete_consumers()
        made, last = await self._look()
        if made != self._made or last < self.last:
            logger.warning("the stream %s was made anew: reading it from its start", self._stream)
            self._made, self.last = made, 0
        await self._create()

    async def _on_message(self, consumer: str, message: Message) -> None:
        while self._inside:  # an earlier inbox's last callback is still at it
            await asyncio.sleep(_STILL_S)
        if self._closed or consumer != self._consumer or self._broken.is_set():
            return
        self._inside = True
        try:
            if not message.data and status_of(message) == "100":
                await self._on_control(message)
            elif (stored := self._next(message)) is not None:
                await self._callback(stored)
        finally:
            self._inside = False

    def _next(self, message: Message) -> StoredMessage | None:
        """None where something is missing before it: that is read first."""
        delivered, sequence, time_ms = _place(message.reply)
        if delivered != self._delivered + 1:
            logger.info("a gap in %s after %d: reading on from there", self._stream, self.last)
            self.restart()
            return None
        self._delivered, self.last = delivered, sequence
        return StoredMessage(message.subject, message.data, message.headers, sequence, time_ms)

    async def _on_control(self, message: Message) -> None:
        headers = message.headers or {}
        if message.reply:
            await self._connection.send(message.reply, b"", "", b"")
            return
        if stalled := headers.get("Nats-Consumer-Stalled"):
            await self._connection.send(stalled, b"", "", b"")
        if int(headers.get("Nats-Last-Consumer", 0)) > self._delivered:
            self.restart()


def _place(reply: str) -> tuple[int, int, int]:
    """The consumer's sequence, the stream's, and the time stored, from ``$JS.ACK.…``."""
    parts: Any = reply.split(".")
    at = 5 if len(parts) < 11 else 7  # a domain and an account come first in the longer form
    return int(parts[at + 1]), int(parts[at]), int(parts[at + 2]) // 1_000_000
