"""Subscriptions that outlive the connection they were made on."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import nats.errors

from ..bus import Message, OnMessage, Subscription
from .client import OneConnection
from .parsing import Deliver

if TYPE_CHECKING:
    from .connection import Connection

logger = logging.getLogger("dspex.bus")

_CLOSE_S = 2.0
_HELD_BYTES = 128 * 1024 * 1024
_MESSAGE_BYTES = 512
"""What a message takes in memory besides its data, about."""


class Route:
    """Interest in a subject. ``deliver`` is called from the read loop: it must be short and raise nothing."""

    def __init__(self, subject: str, queue: str, deliver: Deliver) -> None:
        self.subject = subject
        self.queue = queue
        self._deliver = deliver
        self._client: OneConnection | None = None
        self._id = b""

    async def attach(self, client: OneConnection) -> None:
        self._id = await client.listen(self.subject, self.queue, self._deliver)
        self._client = client

    async def detach(self) -> None:
        """Everything that was under way has been delivered when this returns."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(nats.errors.Error, OSError):
                await client.leave(self._id, _CLOSE_S)


class LastingSubscription(Subscription):
    """Hands messages to its callback one at a time, in a task of its own."""

    def __init__(self, connection: Connection, subject: str, queue: str, callback: OnMessage) -> None:
        self.route = Route(subject, queue, self._receive)
        self._connection = connection
        self._callback = callback
        self._held: deque[Message] = deque()
        self._held_bytes = 0
        self._more: asyncio.Future[None] | None = None
        self._leaving = self._closed = False
        self._task = connection.tasks.start(self._hand_over(), f"subscription {subject}")

    def _receive(self, message: Message) -> None:
        size = len(message.data) + _MESSAGE_BYTES
        if self._held_bytes + size > _HELD_BYTES:
            logger.error("a message on %s was dropped: callbacks are too slow", message.subject)
            return
        self._held_bytes += size
        self._held.append(message)
        self._wake()

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    async def _hand_over(self) -> None:
        held = self._held
        while not self._closed:
            while held and not self._closed:
                message = held.popleft()
                self._held_bytes -= len(message.data) + _MESSAGE_BYTES
                try:
                    await self._callback(message)
                except Exception:
                    logger.exception("%s: the callback for %s failed", self._connection.name, self.route.subject)
            if self._leaving:
                return
            self._more = asyncio.get_running_loop().create_future()
            await self._more

    async def close(self) -> None:
        """What has arrived is still handed over, unless a callback itself closes: then nothing more is."""
        if self._leaving:
            return
        self._leaving = True
        self._connection.forget(self.route)
        if asyncio.current_task() is self._task:
            self._closed = True
            self._connection.tasks.start(self.route.detach(), f"close {self.route.subject}")
            return
        await self.route.detach()
        self._wake()
        await asyncio.wait({self._task}, timeout=_CLOSE_S)
        self._closed = True
        self._task.cancel()
