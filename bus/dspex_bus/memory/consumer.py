"""A durable pull consumer in memory: one queue, shared by those who want from it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass

from .._mailbox import Mailbox
from .._tasks import Tasks
from ..bus import Consumer, Delivery, Headers, OnDelivery, StoredMessage
from .stream import Stream
from .subject import matches


@dataclass(eq=False)
class Outstanding:
    """A message delivered and not yet acknowledged."""

    message: StoredMessage
    deliveries: int
    timer: asyncio.TimerHandle | None = None


class Durable:
    """Delivers each message to one member; again when ``ack_wait_s`` passes without a word, or when it is given
    back."""

    def __init__(self, stream: Stream, subject: str, ack_wait_s: float) -> None:
        self.stream = stream
        self.subject = subject
        self.ack_wait_s = ack_wait_s
        self.members: list[MemoryConsumer] = []
        self._waiting: deque[tuple[int, int]] = deque()
        self.outstanding: dict[int, Outstanding] = {}
        for message in stream.select(subject):
            self._waiting.append((message.sequence, 1))
        stream.followers.append(self._stored)

    @property
    def pending(self) -> int:
        return sum(self.stream.get(sequence) is not None for sequence, _ in self._waiting)

    @property
    def redelivered(self) -> int:
        again = [held.deliveries for held in self.outstanding.values()] + [count for _, count in self._waiting]
        return sum(count > 1 for count in again)

    @property
    def oldest_wait_ms(self) -> int:
        waiting = (self.stream.get(sequence) for sequence, _ in self._waiting)
        times = [message.time_ms for message in waiting if message is not None]
        return max(0, int(time.time() * 1000) - min(times)) if times else 0

    def _stored(self, message: StoredMessage) -> None:
        if matches(self.subject, message.subject):
            self._waiting.append((message.sequence, 1))
            self.pump()

    def pump(self) -> None:
        while self._waiting:
            member = next((member for member in self.members if member.wanted), None)
            if member is None:
                return
            # Members take turns.
            self.members.remove(member)
            self.members.append(member)
            sequence, deliveries = self._waiting.popleft()
            message = self.stream.get(sequence)
            if message is None:
                continue
            held = self.outstanding[sequence] = Outstanding(message, deliveries)
            self.watch(held)
            member.take(MemoryDelivery(self, held))

    def watch(self, held: Outstanding) -> None:
        if held.timer is not None:
            held.timer.cancel()
        held.timer = asyncio.get_running_loop().call_later(self.ack_wait_s, self.again, held)

    def again(self, held: Outstanding) -> None:
        """Back to the front of the queue, unless acknowledged meanwhile."""
        if self.outstanding.get(held.message.sequence) is held:
            self.forget(held)
            self._waiting.appendleft((held.message.sequence, held.deliveries + 1))
            self.pump()

    def forget(self, held: Outstanding) -> None:
        self.outstanding.pop(held.message.sequence, None)
        if held.timer is not None:
            held.timer.cancel()

    def acknowledged(self, sequence: int) -> None:
        """By whomever, however late: the task is done."""
        held = self.outstanding.get(sequence)
        if held is not None:
            self.forget(held)
        else:
            self._waiting = deque(entry for entry in self._waiting if entry[0] != sequence)
        if self.stream.spec.work_queue:
            self.stream.remove(sequence)


class MemoryDelivery(Delivery):
    __slots__ = ("_durable", "_held")

    def __init__(self, durable: Durable, held: Outstanding) -> None:
        self._durable = durable
        self._held = held
        self.subject: str = held.message.subject
        self.data: bytes = held.message.data
        self.headers: Headers | None = held.message.headers
        self.deliveries: int = held.deliveries
        self.sequence: int = held.message.sequence
        self.time_ms: int = held.message.time_ms
        self.receipt: str = f"{durable.stream.spec.name}.{held.message.sequence}"

    async def ack(self) -> None:
        self._durable.acknowledged(self._held.message.sequence)

    async def nak(self, delay_s: float = 0.0) -> None:
        if delay_s > 0:
            if self._durable.outstanding.get(self._held.message.sequence) is not self._held:
                return
            if self._held.timer is not None:
                self._held.timer.cancel()
            loop = asyncio.get_running_loop()
            self._held.timer = loop.call_later(delay_s, self._durable.again, self._held)
        else:
            self._durable.again(self._held)

    async def in_progress(self) -> None:
        if self._durable.outstanding.get(self._held.message.sequence) is self._held:
            self._durable.watch(self._held)


class MemoryConsumer(Consumer):
    def __init__(self, durable: Durable, callback: OnDelivery, tasks: Tasks) -> None:
        self.wanted = 0
        self._durable = durable
        self._mailbox = Mailbox(callback, tasks, "consumer")
        durable.members.append(self)

    def take(self, delivery: MemoryDelivery) -> None:
        self.wanted -= 1
        self._mailbox.put(delivery)

    async def want(self, count: int) -> None:
        if self in self._durable.members:
            self.wanted += count
            self._durable.pump()

    async def pause(self) -> None:
        self.wanted = 0

    async def close(self) -> None:
        self.wanted = 0
        if self in self._durable.members:
            self._durable.members.remove(self)
            await self._mailbox.close()
