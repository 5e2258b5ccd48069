"""A worker's share of a pool's durable consumer, with pull requests kept standing for what it wants."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from .. import crashing
from ..bus import Consumer, Delivery, Headers, Message, OnDelivery
from ..errors import DspexError
from .connection import Connection
from .jetstream import API, JetStream, nanoseconds
from .replies import status_of
from .subscription import LastingSubscription

logger = logging.getLogger("dspex.bus")

EXPIRES_S = 2.0
"""A worker whose machine hangs is sent nothing after that: the server learns much later that it is gone."""
_MAX_ACK_PENDING = 20_000
_MAX_WAITING = 8192
_RETRY_S = 0.25
_CHECK_S = 1.0


_ACK = "$JS.ACK."


class NatsDelivery(Delivery):
    def __init__(self, connection: Connection, message: Message) -> None:
        self._connection = connection
        self.receipt: str = message.reply
        self.subject: str = message.subject
        self.data: bytes = message.data
        self.headers: Headers | None = message.headers
        parts = message.reply.split(".")
        first = 4 if len(parts) < 11 else 6
        self.deliveries: int = int(parts[first])
        self.sequence: int = int(parts[first + 1])
        self.time_ms: int = int(parts[first + 3]) // 1_000_000

    async def ack(self) -> None:
        await self._answer("ack", b"+ACK", urgent=False)

    async def nak(self, delay_s: float = 0.0) -> None:
        delay = b' {"delay": %d}' % nanoseconds(delay_s) if delay_s > 0 else b""
        await self._answer("nak", b"-NAK" + delay)

    async def in_progress(self) -> None:
        await self._answer("in_progress", b"+WPI")

    async def _answer(self, verb: str, answer: bytes, *, urgent: bool = True) -> None:
        crashing.before(verb, self.subject)
        await self._connection.hand_on(self.receipt, answer, "", b"", urgent=urgent)
        crashing.sent(verb, self.subject, self._connection.flush)


def sequence_of(receipt: str) -> int:
    """The task's, in its stream."""
    parts = receipt.split(".")
    return int(parts[5] if len(parts) < 11 else parts[7])


def task_of(receipt: str) -> str:
    """Its stream, consumer and sequence."""
    parts = receipt.split(".")
    return ".".join((*parts[2:4], parts[5]) if len(parts) < 11 else (*parts[4:6], parts[7]))


def filters(subject: str) -> list[str]:
    """A consumer's, in two where they could be one. For each message that is next under a single wildcard a server
    looks through every subject of a stream in memory, up to 256 of them, and so with a fan-out's tasks all through
    each other's; under several it goes by sequence."""
    above = subject.removesuffix(".>")
    return [subject] if above == subject else [f"{above}.*", f"{above}.*.>"]


def filtered(config: Mapping[str, Any]) -> str:
    """The subject that a consumer has its messages of."""
    found = config.get("filter_subjects") or [config["filter_subject"]]
    return f"{str(found[-1]).removesuffix('.*.>')}.>" if len(found) > 1 else str(found[0])


def receipt_of(stream: str, durable: str, sequence: int, consumer_sequence: int) -> str:
    """One that the server takes for an outstanding task whose own receipt is lost: it looks at the task's sequence in a
    receipt, and whether it has come to the consumer's and not left it behind."""
    return f"{_ACK}{stream}.{durable}.1.{sequence}.{consumer_sequence}.0.0"


async def give_back(connection: Connection, receipt: str) -> None:
    if not receipt.startswith(_ACK):
        raise ValueError(f"{receipt!r} is no receipt")
    await connection.send(receipt, b"-NAK", "", b"")


class NatsConsumer(Consumer):
    """``wanted`` counts what may still come, ``asked`` what standing requests will bring.

    Requests stand as long as somebody listens on the inbox they name: a new inbox is a clean slate.
    """

    def __init__(
        self,
        connection: Connection,
        jetstream: JetStream,
        stream: str,
        durable: str,
        subject: str,
        callback: OnDelivery,
        ack_wait_s: float,
    ) -> None:
        self._connection = connection
        self._jetstream = jetstream
        self._stream = stream
        self._durable = durable
        self._subject = subject
        self._callback = callback
        self._ack_wait_s = ack_wait_s
        self._next = f"{API}.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._inbox: LastingSubscription | None = None
        self._wanted = 0
        self._asked = 0
        self._asked_at = 0.0
        self._listening = asyncio.Lock()
        self._unsettled = asyncio.Event()
        self._broken = False
        self._turned_down = False
        self._closed = False
        self._finishing = False

    async def open(self) -> None:
        await self._create()
        self._task = self._connection.tasks.start(self._keep_asking(), f"consume {self._durable}")

    @property
    def closed(self) -> bool:
        return self._closed

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._task.cancel()
            await self.pause()

    async def want(self, count: int) -> None:
        if not self._closed:
            self._wanted += count
            await self._ask()

    async def pause(self) -> None:
        self._wanted = 0
        await self._hang_up()

    async def finish(self) -> None:
        self._finishing = True
        try:
            await self._hang_up()
        finally:
            self._wanted = 0
            self._finishing = False

    def restart(self) -> None:
        """The server may know neither our requests nor the consumer any more."""
        self._broken = True
        self._unsettled.set()

    async def _listen(self) -> LastingSubscription:
        async with self._listening:
            if self._inbox is None:
                subject = self._connection.new_inbox()
                self._inbox = await self._connection.subscribe(subject, partial(self._on_message, subject))
            return self._inbox

    async def _hang_up(self) -> None:
        """What is on its way all the same comes to :meth:`_on_message`."""
        self._asked = 0
        inbox, self._inbox = self._inbox, None
        if inbox is None:
            return
        if inbox.inside:
            self._connection.tasks.start(inbox.close(), f"pause {self._durable}")
        else:
            await inbox.close()

    async def _ask(self) -> None:
        """Top up the standing requests, not for every single task: while most of what is wanted is asked for, tasks
        come."""
        missing = self._wanted - self._asked
        if self._broken or self._turned_down or self._finishing or not self._connection.connected:
            return
        if missing <= 0 or missing * 4 < self._wanted:
            return
        self._asked += missing
        self._asked_at = time.monotonic()
        inbox = self._inbox or await self._listen()
        body = msgspec.json.encode({"batch": missing, "expires": nanoseconds(EXPIRES_S)})
        await self._connection.send(self._next, body, inbox.route.subject, b"")

    async def _on_message(self, inbox: str, message: Message) -> None:
        current = self._inbox is not None and self._inbox.route.subject == inbox
        status = status_of(message)
        if status:
            if current:
                self._on_status(status, message)
            return
        if current:
            self._asked = max(0, self._asked - 1)
        if self._wanted == 0:
            # Asked for before the pause, or through a lost connection: somebody else shall have it.
            await NatsDelivery(self._connection, message).nak()
            return
        self._wanted -= 1
        await self._callback(NatsDelivery(self._connection, message))

    def _on_status(self, status: str, message: Message) -> None:
        """A request is over: it has expired, or the server does not know what it is for, or will not have it."""
        unmet = (message.headers or {}).get("Nats-Pending-Messages")
        self._asked = max(0, self._asked - int(unmet)) if unmet else 0
        if status == "503" or (status == "409" and "Deleted" in getattr(message.headers, "description", "")):
            self._broken = True
        elif status == "409":
            self._turned_down = True
        self._unsettled.set()

    async def _keep_asking(self) -> None:
        """Mends the consumer when it is gone, and asks again for what expired or was lost."""
        while True:
            try:
                async with asyncio.timeout(_CHECK_S):
                    await self._unsettled.wait()
            except TimeoutError:
                if self._asked and time.monotonic() - self._asked_at > EXPIRES_S + 2 * _CHECK_S:
                    self._asked = 0
            self._unsettled.clear()
            if not self._connection.connected:
                continue  # its return restarts us
            try:
                if self._broken:
                    await self._mend()
                if self._turned_down:
                    await asyncio.sleep(_RETRY_S)
                    self._turned_down = False
                await self._ask()
            except DspexError as error:
                logger.warning("consuming %s again: %s", self._durable, error)
                self._unsettled.set()
            else:
                continue
            await asyncio.sleep(_RETRY_S)

    async def _mend(self) -> None:
        await self._create()
        await self._hang_up()
        self._broken = False

    async def _create(self) -> None:
        config = {
            "name": self._durable,
            "durable_name": self._durable,
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": nanoseconds(self._ack_wait_s),
            "filter_subjects": filters(self._subject),
            "max_deliver": -1,
            "max_ack_pending": _MAX_ACK_PENDING,
            "max_waiting": _MAX_WAITING,
            "replay_policy": "instant",
        }
        body = {"stream_name": self._stream, "config": config}
        await self._jetstream.ask(f"CONSUMER.CREATE.{self._stream}.{self._durable}", body)
