"""A server that is killed and comes back: everything that was open goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from dspex_bus import EmbeddedServer, Message, NatsBus
from dspex_bus.errors import Disconnected, DspexError
from dspex_bus.streams import StreamSpec

pytestmark = pytest.mark.anyio

LOG = StreamSpec(name="LOG", subjects=("log.>",))
TASKS = StreamSpec(name="TASKS", subjects=("task.>",), storage="memory", work_queue=True)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(data_dir=tmp_path / "data") as started:
        yield started


@pytest.fixture
async def bus(server: EmbeddedServer) -> AsyncIterator[NatsBus]:
    async with NatsBus(server.url, name="restarts") as made:
        await made.prepare([LOG, TASKS], [])
        yield made


class Heard:
    def __init__(self) -> None:
        self.data: list[bytes] = []
        self._came = anyio.Event()

    async def put(self, item: Any) -> None:
        self.data.append(item.data)
        self._came.set()
        self._came = anyio.Event()

    async def until(self, *wanted: bytes) -> None:
        with anyio.fail_after(20):
            while not set(wanted) <= set(self.data):
                await self._came.wait()


async def returned(bus: NatsBus) -> None:
    with anyio.fail_after(20):
        while True:
            try:
                await bus.stream_info("TASKS")
                return
            except DspexError:
                await anyio.sleep(0.02)


async def test_a_request_in_flight_fails_at_once(server: EmbeddedServer, bus: NatsBus) -> None:
    asked = anyio.Event()

    async def silent(_message: Message) -> None:
        asked.set()

    await bus.subscribe("silent", silent)

    async def ask() -> None:
        with pytest.raises(Disconnected):
            await bus.request("silent", timeout_s=600)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await asked.wait()
            await server.kill()


async def test_subscriptions_readers_and_consumers_go_on(server: EmbeddedServer, bus: NatsBus) -> None:
    said, read, tasks, told = Heard(), Heard(), Heard(), anyio.Event()

    async def on_reconnect() -> None:
        told.set()

    bus.on_reconnect(on_reconnect)
    await bus.subscribe("said", said.put)
    reader = await bus.read("LOG", ["log.>"], read.put)
    consumer = await bus.consume("TASKS", "pool", "task.>", tasks.put)
    await consumer.want(8)
    await bus.store_and_wait("log.before", b"before")
    await read.until(b"before")

    await server.restart()
    with anyio.fail_after(20):
        await told.wait()
    await returned(bus)
    await bus.publish("said", b"hello")
    await said.until(b"hello")
    await bus.store_and_wait("log.after", b"after", once=True, timeout_s=10)
    await read.until(b"after")
    assert read.data == [b"before", b"after"]
    # The memory stream was lost with the server, and made again.
    await bus.store_and_wait("task.after", b"task", once=True, timeout_s=10)
    await tasks.until(b"task")
    await reader.close()


async def test_what_is_to_be_stored_once_is_stored_when_the_server_is_back(
    server: EmbeddedServer, bus: NatsBus
) -> None:
    results: list[Any] = []
    done = anyio.Event()

    def then(result: Any) -> None:
        results.append(result)
        if len(results) == 50:
            done.set()

    await server.kill()
    for number in range(50):
        await bus.store(f"log.{number}", b"x", once=True, then=then)
    await server.start()
    with anyio.fail_after(20):
        await done.wait()
    assert all(result.created for result in results)
    assert len([message async for message in bus.history("LOG", "log.>")]) == 50


async def test_while_the_server_is_away_everything_ends_in_time(server: EmbeddedServer, bus: NatsBus) -> None:
    await server.kill()
    with anyio.fail_after(15):
        with pytest.raises(DspexError):
            await bus.request("x", timeout_s=1)
        with pytest.raises(DspexError):
            await bus.store_and_wait("log.x", b"x", timeout_s=1)
        with pytest.raises(DspexError):
            await bus.last("LOG", "log.x")


async def test_nobody_at_the_address() -> None:
    with anyio.fail_after(10):
        with pytest.raises(DspexError) as refusal:
            async with NatsBus("nats://127.0.0.1:1", name="x", connect_timeout_s=0.5):
                pass
    assert "127.0.0.1:1" in refusal.value.message
