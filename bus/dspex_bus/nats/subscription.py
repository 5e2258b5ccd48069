"""Subscriptions that outlive the connection they were made on."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import nats.errors

from .._mailbox import CLOSE_S, Mailbox
from ..bus import Message, OnMessage, Subscription
from ..errors import NotPermitted
from .client import OneConnection
from .parsing import Deliver

if TYPE_CHECKING:
    from .connection import Connection

logger = logging.getLogger("dspex.bus")

HELD_BYTES = 128 * 1024 * 1024
"""What may wait for one subscription's callbacks. What comes beyond that is dropped, and said to be."""
_MESSAGE_BYTES = 512
"""What a message takes in memory besides its data, about."""


class Route:
    """Interest in a subject. ``deliver`` is called from the read loop: it must be short and raise nothing.

    ``client`` is the connection it hears through; ``refused`` says that the server does not allow it."""

    def __init__(self, subject: str, queue: str, deliver: Deliver) -> None:
        self.subject = subject
        self.queue = queue
        self.client: OneConnection | None = None
        self.refused: NotPermitted | None = None
        self._deliver = deliver
        self._id = b""

    async def attach(self, client: OneConnection) -> None:
        self.client = client
        self._id = await client.listen(self.subject, self.queue, self._deliver)

    async def detach(self) -> None:
        """Everything that was under way has been delivered when this returns."""
        client, self.client = self.client, None
        if client is not None:
            with suppress(nats.errors.Error, OSError):
                await client.leave(self._id, CLOSE_S)


class LastingSubscription(Subscription):
    """Hands messages to its callback one at a time, in a task of its own. ``heard`` is when something came last,
    whether it has been handed over or not."""

    def __init__(self, connection: Connection, subject: str, queue: str, callback: OnMessage) -> None:
        self.route = Route(subject, queue, self._receive)
        self.heard = time.monotonic()
        self.dropped = 0
        self._connection = connection
        self._callback = callback
        self._held_bytes = 0
        self._closed = False
        self._mailbox = Mailbox(self._hand_over, connection.tasks, f"subscription {subject}")

    @property
    def inside(self) -> bool:
        """Whether it is its callback that asks."""
        return self._mailbox.inside

    def _receive(self, message: Message) -> None:
        self.heard = time.monotonic()
        size = len(message.data) + _MESSAGE_BYTES
        if self._held_bytes + size > HELD_BYTES:
            self._drop()
            return
        self._held_bytes += size
        self._mailbox.put(message)

    def _drop(self) -> None:
        self.dropped += 1
        if self.dropped.bit_count() == 1:  # the first, the second, the fourth, …
            subject = self.route.subject
            logger.error("callbacks are too slow: %d messages on %s were dropped so far", self.dropped, subject)

    async def _hand_over(self, message: Message) -> None:
        self._held_bytes -= len(message.data) + _MESSAGE_BYTES
        await self._callback(message)

    async def close(self) -> None:
        """What has arrived is still handed over, unless a callback itself closes: then nothing more is."""
        if self._closed:
            return
        self._closed = True
        self._connection.forget(self.route)
        if self.inside:
            await self._mailbox.close()
            self._connection.tasks.start(self.route.detach(), f"close {self.route.subject}")
        else:
            await self.route.detach()
            await self._mailbox.close()
