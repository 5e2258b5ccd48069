"""Large values and the routers that look after them: killed in mid-run, purged with their sessions, swept astray."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import anyio
import pytest

import dspex
from dspex_bus import EmbeddedServer, Message, NatsBus, subjects
from dspex_bus.claim import OBJECT, Claims
from dspex_bus.streams import EVENTS, OBJECTS
from dspex_bus.wire import SessionEnded, StepSucceeded, StoredEvent
from dspex_router import Router, RouterConfig

from .test_replicas import native_pool, router

pytestmark = pytest.mark.anyio

TEXT = "t" * 3_000_000
ITEMS = ["i" * 600_000 for _ in range(5)]


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer() as started:
        yield started


@asynccontextmanager
async def routed(server: EmbeddedServer, config: RouterConfig) -> AsyncIterator[NatsBus]:
    """A router in this process, and its bus."""
    async with NatsBus(server.url, name="router") as bus, anyio.create_task_group() as group:
        await group.start(Router(bus, config).run)
        yield bus
        group.cancel_scope.cancel()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(15):
        while not await holds():
            await anyio.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_router_killed_with_large_values_on_their_way(server: EmbeddedServer) -> None:
    swelling = dspex.pipeline(
        [
            dspex.native("template", template="{{ text }}!", name="shouted"),
            dspex.map("items", [dspex.native("template", template="{{ item }}?", inputs={"item": "item"})], limit=2),
            dspex.native("template", template="{{ text | join | length }}"),
        ]
    )
    with ExitStack() as stack:
        running = stack.enter_context(router(server))
        stack.enter_context(native_pool(server))
        async with dspex.connect(server.url) as client:
            handle = await client.submit(swelling, {"text": TEXT, "items": ITEMS})
            events: list[StoredEvent] = []
            kills = [1, 3]
            async for event in handle.events():
                events.append(event)
                if kills and len(events) >= kills[0]:
                    kills.pop(0)
                    running.kill()
                    running = stack.enter_context(router(server))
            assert not kills
            assert (await handle.result(timeout_s=20)).output == {"text": str(5 * 600_001)}
            assert sum(isinstance(event.event, StepSucceeded) for event in events) == 7
            assert isinstance(events[-1].event, SessionEnded)


async def test_a_session_takes_its_objects_with_it(server: EmbeddedServer) -> None:
    config = RouterConfig(retention_s=0.0, purge_s=0.05)
    ends = dspex.pipeline([dspex.wait("never", timeout_s=0.05, default={"text": TEXT})])
    lives = dspex.pipeline([dspex.wait("go")])
    async with routed(server, config) as bus, dspex.connect(server.url) as client:
        objects = bus.objects(OBJECTS)
        living = await client.submit(lives, {"text": TEXT})
        ending = await client.submit(ends, {"text": TEXT})

        async def gone() -> bool:
            return await bus.last(EVENTS, subjects.accepted(subjects.partition_of(ending.id, 16), ending.id)) is None

        await until(gone)

        async def only_the_living() -> bool:
            return {subjects.split_object(info.name) for info in await objects.contents()} == {living.id}

        await until(only_the_living)
        await living.signal("go", {"said": TEXT})
        assert (await living.result(timeout_s=10)).output == {"said": TEXT}

        async def empty() -> bool:
            return not await objects.contents() and (await bus.stream_info(f"OBJ_{OBJECTS}"))["messages"] == 0

        await until(empty)


async def test_strays_are_swept_and_nothing_else(server: EmbeddedServer) -> None:
    async with routed(server, RouterConfig(stray_s=0.5)) as bus, dspex.connect(server.url) as client:
        objects = bus.objects(OBJECTS)
        living = await client.submit(dspex.pipeline([dspex.wait("go")]), {"text": TEXT})
        await objects.put("a picture of somebody's", b"x")
        claims, astray = Claims(bus), []
        for subject in (subjects.end(3, "nobody"), subjects.task("p", "normal", "nobody", "0", 1), "_INBOX.x"):
            _, headers = await claims.pack(subject, TEXT.encode())
            assert headers is not None
            astray.append(headers[OBJECT])
        # Chunks of an object that never came to be: its writer died.
        await bus.store_and_wait(f"$O.{OBJECTS}.C.{secrets.token_hex(8)}", b"x" * 1000)
        assert set(astray) <= {info.name for info in await objects.contents()}
        before = (await bus.stream_info(f"OBJ_{OBJECTS}"))["messages"]

        async def swept() -> bool:
            return not set(astray) & {info.name for info in await objects.contents()}

        await until(swept)
        names = [subjects.split_object(info.name) for info in await objects.contents()]
        assert sorted(names, key=str) == sorted([None, living.id], key=str)

        async def nothing_left() -> bool:
            chunks = -(-len(TEXT) // (128 * 1024))
            return (await bus.stream_info(f"OBJ_{OBJECTS}"))["messages"] == before - 3 * (chunks + 1) - 1

        await until(nothing_left)
        await living.signal("go", {"said": 1})
        assert (await living.result(timeout_s=10)).output == {"said": 1}


async def test_what_the_router_is_told_to_be_too_large(server: EmbeddedServer) -> None:
    async with routed(server, RouterConfig(largest_bytes=2_000_000)) as bus, dspex.connect(server.url) as client:
        with pytest.raises(dspex.DspexError) as refusal:
            await client.submit(dspex.pipeline([dspex.wait("go")]), {"text": TEXT})
        assert refusal.value.code == "payload_too_large"
        assert refusal.value.details["limit"] == 2_000_000
        assert refusal.value.details["size"] > len(TEXT)
        handle = await client.submit(dspex.pipeline([dspex.wait("go")]), {"text": "t" * 1_500_000})
        with pytest.raises(dspex.DspexError):
            await handle.signal("go", {"said": TEXT})
        await handle.signal("go", {"said": "s" * 1_500_000})
        assert (await handle.result(timeout_s=10)).status == "succeeded"
        assert bus.connected


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_server_restarted_with_large_values_on_their_way(tmp_path: Path) -> None:
    """Tasks are in its memory: they are sent again, with objects of their own."""
    text = dspex.native("template", template="{{ text }}!")
    pipeline = dspex.pipeline([text, dspex.sleep(1), *[dspex.native("template", template="{{ text }}!")] * 3])
    async with EmbeddedServer(data_dir=tmp_path) as server:
        with router(server), native_pool(server):
            async with dspex.connect(server.url) as client:
                handle = await client.submit(pipeline, {"text": TEXT}, timeout_s=60)
                restarts = 0
                async for event in handle.events():
                    if isinstance(event.event, StepSucceeded) and restarts < 2:
                        restarts += 1
                        await server.restart()
                result = await handle.result(timeout_s=40)
                assert (restarts, result.output) == (2, {"text": TEXT + "!!!!"})


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_ten_thousand_items_cost_ten_thousand_times_one(server: EmbeddedServer) -> None:
    """Not the square of it: no item is sent the others, and nothing that is stored holds them again and again."""
    count = 10_000
    words = [f"word {number:05} of a long list" for number in range(count)]
    pipeline = dspex.pipeline(
        [
            dspex.map("words", [dspex.native("template", template="{{ item }}!")], limit=256),
            dspex.native("template", template="{{ words | length }} {{ text | length }}"),
        ]
    )
    sent = [0, 0]

    async def on_task(message: Message) -> None:
        sent[0] += 1
        sent[1] += len(message.data)

    with router(server) as running, native_pool(server):
        async with dspex.connect(server.url) as client:
            before_kb = _peak_kb(running.pid)
            await client.bus.subscribe(f"{subjects.TASK}.>", on_task)
            handle = await client.submit(pipeline, {"words": words}, timeout_s=100)
            assert (await handle.result(timeout_s=100)).output == {"text": f"{count} {count}"}
            assert sent[0] == count + 1
            assert sent[1] < count * 1_000
            assert (await client.bus.stream_info(EVENTS))["bytes"] < count * 1_500
            assert _peak_kb(running.pid) - before_kb < 200_000


def _peak_kb(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])


@pytest.mark.slow
async def test_a_session_whose_object_is_gone_fails_and_no_other(server: EmbeddedServer) -> None:
    with router(server) as first:
        async with dspex.connect(server.url) as client:
            waits = dspex.pipeline([dspex.wait("go")])
            broken, other = [await client.submit(waits, {"text": TEXT}) for _ in range(2)]
            assert (await broken.view()).status == "running"
            objects = client.bus.objects(OBJECTS)
            for info in await objects.contents():
                if subjects.split_object(info.name) == broken.id:
                    await objects.delete(info.name)
            first.kill()
            with router(server):
                await other.signal("go", {"said": 1})
                assert (await other.result(timeout_s=20)).output == {"said": 1}
                result = await broken.result(timeout_s=20)
                assert (result.status, result.error and result.error.code) == ("failed", "object_gone")
                with pytest.raises(dspex.DspexError) as refusal:
                    await broken.view()
                assert refusal.value.code == "object_gone"
