"""The floors: what a step costs on raw nats-py with nothing of dspex around it.

*Core*: a request to a queue group and its reply. *Journal*: the protocol that durable steps follow, at its barest: a
task stored in a create-once slot of a work queue, its outcome stored in a create-once slot of a journal, the task
acknowledged after that; acknowledgements of stores are awaited off the critical path. No types, no errors, no recovery.
Bare, it sends the first task and calls a run done without waiting for what is stored of the run itself. ``waits`` makes
it keep what the protocol promises: nothing of a run is done before its start is stored, and nobody is told of its end
before that is.

The worker is a process of its own, as in the product: ``python benchmarks/floor.py URL [--asyncio]``.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import nats
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RePublish, RetentionPolicy, StorageType, StreamConfig

ONCE = {"Nats-Expected-Last-Subject-Sequence": "0"}
PAYLOAD = {"text": "x" * 128, "count": 0}
_BATCH = 500


def _step(data: bytes) -> bytes:
    value = json.loads(data)
    value["count"] += 1
    return json.dumps(value).encode()


async def work(url: str) -> None:
    """The worker's side of both floors."""
    connection = await nats.connect(url)
    stores = Stores(connection)
    await stores.start()
    inbox = connection.new_inbox()
    asked = 0

    async def pull() -> None:
        nonlocal asked
        asked += _BATCH
        request = json.dumps({"batch": _BATCH, "expires": 30_000_000_000}).encode()
        await connection.publish("$JS.API.CONSUMER.MSG.NEXT.FLOOR_TASKS.worker", request, reply=inbox)

    async def on_task(message: Any) -> None:
        nonlocal asked
        if message.headers and "Status" in message.headers:
            asked = 0
            await pull()
            return
        asked -= 1
        _, _, session, node = message.subject.split(".")

        async def acknowledge() -> None:
            await connection.publish(message.reply, b"+ACK")

        await stores.store(f"floor.journal.{session}.{node}", _step(message.data), acknowledge)
        if asked < _BATCH // 2:
            await pull()

    async def on_request(message: Any) -> None:
        await connection.publish(message.reply, _step(message.data))

    await connection.subscribe(inbox, cb=on_task)
    await connection.subscribe("floor.now", queue="workers", cb=on_request)
    await pull()
    await connection.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


class Stores:
    """Create-once publishes whose acknowledgements come to one inbox."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._inbox = connection.new_inbox()
        self._waiting: dict[str, Callable[[], Awaitable[None]] | None] = {}
        self._count = 0

    async def start(self) -> None:
        async def on_ack(message: Any) -> None:
            then = self._waiting.pop(message.subject.rsplit(".", 1)[1])
            if then is not None:
                await then()

        await self._connection.subscribe(f"{self._inbox}.*", cb=on_ack)

    async def store(self, subject: str, data: bytes, then: Callable[[], Awaitable[None]] | None = None) -> None:
        self._count += 1
        token = str(self._count)
        self._waiting[token] = then
        await self._connection.publish(subject, data, reply=f"{self._inbox}.{token}", headers=dict(ONCE))


class CoreFloor:
    """Steps as plain requests."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def run(self, steps: int) -> None:
        data = json.dumps(PAYLOAD).encode()
        for _ in range(steps):
            data = (await self._connection.request("floor.now", data, timeout=10)).data


class JournalFloor:
    """Steps as stored tasks and outcomes; the router's side is this class."""

    def __init__(self, connection: Any, tasks: str) -> None:
        self._connection = connection
        self._stores = Stores(connection)
        self._tasks = StorageType.MEMORY if tasks == "memory" else StorageType.FILE
        self._runs: dict[str, Any] = {}
        self._count = 0

    async def start(self) -> None:
        jetstream = self._connection.jetstream()
        await jetstream.add_stream(
            StreamConfig(
                name="FLOOR_JOURNAL",
                subjects=["floor.journal.>"],
                storage=StorageType.FILE,
                discard=DiscardPolicy.NEW,
                republish=RePublish(src="floor.journal.>", dest="floor.event.>"),
            )
        )
        await jetstream.add_stream(
            StreamConfig(
                name="FLOOR_TASKS",
                subjects=["floor.task.>"],
                retention=RetentionPolicy.WORK_QUEUE,
                storage=self._tasks,
            )
        )
        await jetstream.add_consumer(
            "FLOOR_TASKS",
            ConsumerConfig(durable_name="worker", ack_policy=AckPolicy.EXPLICIT, max_ack_pending=20_000),
        )
        await self._stores.start()
        await self._connection.subscribe("floor.event.>", cb=self._on_event)

    async def run(self, steps: int, *, waits: bool = False) -> None:
        await self._session(steps, 1, waits)

    async def fan_out(self, width: int, *, waits: bool = False) -> None:
        await self._session(width, width, waits)

    async def _session(self, outcomes: int, first: int, waits: bool) -> None:
        self._count += 1
        session = f"s{self._count}"
        done = asyncio.get_running_loop().create_future()
        data = json.dumps(PAYLOAD).encode()
        self._runs[session] = [outcomes, done, first, waits]
        await self._stores.store(f"floor.journal.{session}.accepted", data)
        if not waits:
            await self._start(session, first, data)
        await asyncio.wait_for(done, 60)

    async def _start(self, session: str, first: int, data: bytes) -> None:
        for node in range(first):
            await self._stores.store(f"floor.task.{session}.{node}", data)

    async def _on_event(self, message: Any) -> None:
        _, _, session, node = message.subject.split(".")
        run = self._runs.get(session)
        if run is None:
            return
        if node.isdigit():
            await self._on_outcome(session, run, int(node), message.data)
        elif node == "accepted" and run[3]:
            await self._start(session, run[2], message.data)
        elif node == "end" and run[3]:
            self._done(session, run)

    async def _on_outcome(self, session: str, run: Any, node: int, data: bytes) -> None:
        run[0] -= 1
        if run[0] == 0:
            await self._stores.store(f"floor.journal.{session}.end", data)
            if not run[3]:
                self._done(session, run)
        elif run[2] == 1:
            value = json.loads(data)
            await self._stores.store(f"floor.task.{session}.{node + 1}", json.dumps(value).encode())

    def _done(self, session: str, run: Any) -> None:
        del self._runs[session]
        run[1].set_result(None)


if __name__ == "__main__":
    from timing import run_loop

    run_loop(work(sys.argv[1]), plain="--asyncio" in sys.argv)
