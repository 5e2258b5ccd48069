"""What only a real server can show of stored things: layouts others read, streams lost and made anew, answers that do
not come."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import nats
import pytest
from nats.js.api import StreamConfig

import dspex_bus.nats.consumer as nats_consumer
import dspex_bus.nats.publishing as publishing
from dspex_bus import Delivery, EmbeddedServer, Entry, Message, NatsBus, Stored, StoredMessage
from dspex_bus.errors import (
    Conflict,
    DeadlineExceeded,
    Disconnected,
    PayloadTooLarge,
    SetupError,
    StoreFailed,
)
from dspex_bus.nats.jetstream import ApiError, milliseconds, translated
from dspex_bus.streams import BucketSpec, StreamSpec, buckets, streams

from .links import ConfiguredServer, Link

pytestmark = pytest.mark.anyio

LOG = StreamSpec(name="LOG", subjects=("log.>",), storage="memory")
WORK = StreamSpec(name="WORK", subjects=("work.>",), storage="memory", work_queue=True)


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer() as started:
        yield started


@pytest.fixture
async def bus(server: EmbeddedServer) -> AsyncIterator[NatsBus]:
    async with NatsBus(server.url, name="test") as opened:
        yield opened


@pytest.fixture
async def theirs(server: EmbeddedServer) -> AsyncIterator[Any]:
    """A client that is not ours."""
    client = await nats.connect(server.url)
    yield client
    await client.close()


# --- layouts that others read --------------------------------------------------------------------


async def test_other_clients_read_our_keys_and_we_theirs(bus: NatsBus, theirs: Any) -> None:
    await bus.prepare([], [BucketSpec(name="bucket")])
    ours = bus.key_value("bucket")
    revision = await ours.put("a.b", b"1")
    their = await theirs.jetstream().key_value("bucket")
    found = await their.get("a.b")
    assert (found.value, found.revision) == (b"1", revision)
    changed = await their.update("a.b", b"2", last=revision)
    assert await ours.get("a.b") == Entry(b"2", changed)
    with pytest.raises(Conflict):
        await ours.update("a.b", b"3", revision)


@pytest.mark.parametrize("size", [0, 1, 300_000])
async def test_other_clients_read_our_objects_and_we_theirs(bus: NatsBus, theirs: Any, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    ours = bus.objects("things")
    digest = await ours.put("a thing", data)
    assert digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    their = await theirs.jetstream().object_store("things")
    assert (await their.get("a thing")).data == data
    await their.put("their thing", data)
    assert await ours.get("their thing") == data
    await ours.delete("their thing")
    await their.delete("a thing")
    assert await ours.get("a thing") is None
    assert await ours.get("their thing") is None


async def test_reading_objects_leaves_no_consumer_behind(bus: NatsBus) -> None:
    objects = bus.objects("things")
    await objects.put("a", b"x" * 300_000)
    for _ in range(10):
        assert await objects.get("a") == b"x" * 300_000
    assert (await bus.stream_info("OBJ_things"))["consumers"] == 0


async def test_a_replaced_or_deleted_object_leaves_nothing(bus: NatsBus) -> None:
    objects = bus.objects("things")
    for size in (1, 400_000, 2):
        await objects.put("a", b"x" * size)
    assert (await bus.stream_info("OBJ_things"))["messages"] == 2  # what it is, and one chunk
    await objects.delete("a")
    assert (await bus.stream_info("OBJ_things"))["messages"] == 0


async def test_what_others_leave_of_objects_is_tidied_up(bus: NatsBus, theirs: Any) -> None:
    ours = bus.objects("things")
    await ours.put("stays", b"x" * 300_000)
    before = (await bus.stream_info("OBJ_things"))["messages"]
    their = await theirs.jetstream().object_store("things")
    await their.put("goes", b"y" * 300_000)
    await their.delete("goes")  # leaves a note
    await theirs.jetstream().publish("$O.things.C.broken-off", b"z")
    assert (await bus.stream_info("OBJ_things"))["messages"] == before + 2
    assert [info.name for info in await ours.contents()] == ["stays"]
    assert await ours.tidy(0) == 0
    assert await ours.tidy(int(time.time() * 1000) + 60_000) == 2
    assert (await bus.stream_info("OBJ_things"))["messages"] == before
    assert await ours.get("stays") == b"x" * 300_000


async def test_a_bucket_of_objects_that_somebody_made_otherwise(bus: NatsBus, theirs: Any) -> None:
    await theirs.jetstream().create_object_store("things", description="theirs", storage="memory")
    await bus.objects("things").put("a", b"1")
    assert await bus.objects("things").get("a") == b"1"
    assert (await bus.stream_info("OBJ_things"))["storage"] == "memory"


async def test_an_object_that_is_damaged(bus: NatsBus) -> None:
    objects = bus.objects("things")
    await objects.put("a", b"x" * 300_000)
    chunks = [message async for message in bus.history("OBJ_things", "$O.things.C.>")]
    await bus._jetstream.ask("STREAM.MSG.DELETE.OBJ_things", {"seq": chunks[1].sequence})
    with pytest.raises(StoreFailed, match="damaged") as raised:
        await objects.get("a")
    assert not raised.value.retryable


async def test_an_object_that_is_replaced_while_it_is_read(bus: NatsBus) -> None:
    objects = bus.objects("things")
    await objects.put("a", b"0")
    done = False

    async def read() -> None:
        while not done:
            found = await objects.get("a")
            assert found is not None
            assert found == found[:1] * len(found)

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        group.start_soon(read)
        for number in range(1, 40):
            await objects.put("a", b"%d" % (number % 10) * 200_000)
        done = True


async def test_an_object_that_cannot_be_put_leaves_nothing() -> None:
    async with ConfiguredServer("max_payload: 100000") as small, NatsBus(small.url) as bus:
        objects = bus.objects("things")
        await objects.put("a", b"old")
        with pytest.raises(PayloadTooLarge):
            await objects.put("a", b"x" * 300_000)
        assert await objects.get("a") == b"old"
        assert (await bus.stream_info("OBJ_things"))["messages"] == 2


# --- streams -------------------------------------------------------------------------------------


async def test_what_dspex_keeps_is_made_and_made_again(bus: NatsBus) -> None:
    for partitions in (16, 32):
        await bus.prepare(streams(partitions=partitions), buckets())
    assert (await bus.stream_info("DSPEX_EVENTS"))["metadata"]["dspex-partitions"] == "16"
    assert (await bus.stream_info("DSPEX_TASKS"))["storage"] == "memory"


async def test_a_stream_of_somebody_else_s_subjects(bus: NatsBus) -> None:
    await bus.prepare([LOG], [])
    with pytest.raises(SetupError, match="OTHER cannot be made"):
        await bus.prepare([StreamSpec(name="OTHER", subjects=("log.a.>",))], [])


async def test_settings_that_we_do_not_know_of_stay(bus: NatsBus, theirs: Any) -> None:
    await theirs.jetstream().add_stream(StreamConfig(name="LOG", subjects=["log.old"], max_msgs=7, storage="memory"))
    await bus.prepare([LOG], [])
    answer = await bus._jetstream.ask("STREAM.INFO.LOG")
    assert (answer["config"]["max_msgs"], answer["config"]["subjects"]) == (7, ["log.>"])


async def test_a_stream_that_is_full_refuses(bus: NatsBus, theirs: Any) -> None:
    await theirs.jetstream().add_stream(
        StreamConfig(name="LOG", subjects=["log.>"], max_msgs=1, discard="new", storage="memory")
    )
    await bus.store_and_wait("log.a", b"")
    with pytest.raises(StoreFailed, match="maximum messages exceeded") as raised:
        await bus.store_and_wait("log.b", b"", once=True)
    assert raised.value.retryable


async def test_a_stream_lost_with_the_server_s_memory_is_made_once_for_all(bus: NatsBus) -> None:
    await bus.prepare([LOG, WORK], [])
    made: list[str] = []
    ask = bus._jetstream.ask

    async def counted(verb: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        made.append(verb)
        return await ask(verb, *arguments, **options)

    bus._jetstream.ask = counted  # type: ignore[method-assign]
    await ask("STREAM.DELETE.WORK")
    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(lambda number=number: bus.store_and_wait(f"work.{number}", b"", once=True))
    assert made.count("STREAM.CREATE.WORK") == 1
    assert made.count("STREAM.INFO.WORK") < 10
    assert (await bus.stream_info("WORK"))["messages"] == 50


async def test_a_reader_of_a_stream_that_is_made_anew(server: EmbeddedServer, bus: NatsBus) -> None:
    await bus.prepare([LOG], [])
    got: list[bytes] = []

    async def callback(message: StoredMessage) -> None:
        got.append(message.data)

    await bus.read("LOG", ["log.>"], callback)
    for number in range(5):
        await bus.store_and_wait("log.a", b"old %d" % number)
    with anyio.fail_after(10):
        while len(got) < 5:
            await asyncio.sleep(0.01)
    await server.kill()
    await server.start()
    await bus.store_and_wait("log.slot", b"new", once=True, timeout_s=10)
    with anyio.fail_after(10):
        while got[-1] != b"new":
            await asyncio.sleep(0.01)
    assert got == [*(b"old %d" % number for number in range(5)), b"new"]


async def test_a_reader_whose_consumer_is_gone(bus: NatsBus, caplog: pytest.LogCaptureFixture) -> None:
    await bus.prepare([LOG], [])
    got: list[int] = []

    async def callback(message: StoredMessage) -> None:
        got.append(message.sequence)

    reader = await bus.read("LOG", ["log.>"], callback)
    first = await bus.store_and_wait("log.a", b"")
    await bus._jetstream.ask(f"CONSUMER.DELETE.LOG.{reader._consumer}")  # type: ignore[attr-defined]
    second = await bus.store_and_wait("log.a", b"")
    with anyio.fail_after(10):
        while got != [first.sequence, second.sequence]:
            await asyncio.sleep(0.01)


async def test_a_reader_whose_stream_is_gone_goes_on_when_it_is_back(bus: NatsBus) -> None:
    await bus.prepare([LOG], [])
    got: list[bytes] = []

    async def callback(message: StoredMessage) -> None:
        got.append(message.data)

    reader = await bus.read("LOG", ["log.>"], callback)
    await bus._jetstream.ask("STREAM.DELETE.LOG")
    reader.restart()  # type: ignore[attr-defined]
    await asyncio.sleep(0.1)  # it looks for its stream meanwhile, and finds none
    await bus.store_and_wait("log.a", b"back", once=True)
    with anyio.fail_after(10):
        while got != [b"back"]:
            await asyncio.sleep(0.01)


# --- pulls ---------------------------------------------------------------------------------------


async def test_a_pull_consumer_that_somebody_deletes_is_made_again(bus: NatsBus) -> None:
    await bus.prepare([WORK], [])
    got: asyncio.Queue[Delivery] = asyncio.Queue()
    consumer = await bus.consume("WORK", "pool", "work.>", got.put)
    await consumer.want(2)
    await bus.store_and_wait("work.a", b"")
    await (await asyncio.wait_for(got.get(), 5)).ack()
    with anyio.fail_after(5):
        while (await bus.stream_info("WORK"))["messages"]:
            await asyncio.sleep(0.01)
    await bus._jetstream.ask("CONSUMER.DELETE.WORK.pool")
    await bus.store_and_wait("work.b", b"")
    assert (await asyncio.wait_for(got.get(), 5)).subject == "work.b"


@pytest.mark.parametrize("subject", ["work.>", "work.high.>", "work.a"])
async def test_a_consumer_filters_in_several_and_says_what_for_in_one(bus: NatsBus, subject: str) -> None:
    await bus.prepare([WORK], [])
    await bus.consume("WORK", "pool", subject, asyncio.Queue[Delivery]().put)
    config = (await bus._jetstream.ask("CONSUMER.INFO.WORK.pool"))["config"]
    assert "filter_subject" not in config or config["filter_subject"] == subject == "work.a"
    assert nats_consumer.filtered(config) == subject


async def test_a_consumer_with_the_filter_of_an_earlier_release_goes_on(bus: NatsBus) -> None:
    await bus.prepare([WORK], [])
    config: dict[str, Any] = {
        "name": "pool",
        "durable_name": "pool",
        "ack_policy": "explicit",
        "max_ack_pending": 20_000,
        "max_waiting": 8192,
        "filter_subject": "work.>",
    }
    await bus._jetstream.ask("CONSUMER.CREATE.WORK.pool.work.>", {"stream_name": "WORK", "config": config})
    for name in ("a", "b", "b.c"):
        await bus.store_and_wait(f"work.{name}", b"")
    got: asyncio.Queue[Delivery] = asyncio.Queue()
    consumer = await bus.consume("WORK", "pool", "work.>", got.put)
    await consumer.want(3)
    assert [(await asyncio.wait_for(got.get(), 5)).subject for _ in range(3)] == ["work.a", "work.b", "work.b.c"]
    assert nats_consumer.filtered(config) == "work.>"


async def test_a_pull_that_finds_its_consumer_gone(bus: NatsBus) -> None:
    await bus.prepare([WORK], [])
    got: asyncio.Queue[Delivery] = asyncio.Queue()
    consumer = await bus.consume("WORK", "pool", "work.>", got.put)
    await bus._jetstream.ask("CONSUMER.DELETE.WORK.pool")
    await bus.store_and_wait("work.a", b"")
    await consumer.want(1)
    assert (await asyncio.wait_for(got.get(), 5)).subject == "work.a"


async def test_a_pull_that_expires_is_asked_anew(bus: NatsBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_consumer, "EXPIRES_S", 0.2)
    await bus.prepare([WORK], [])
    got: asyncio.Queue[Delivery] = asyncio.Queue()
    consumer = await bus.consume("WORK", "pool", "work.>", got.put)
    await consumer.want(2)
    await asyncio.sleep(0.5)  # past the pull's time, and nothing tells of that
    await bus.store_and_wait("work.a", b"")
    assert (await asyncio.wait_for(got.get(), 0.5)).deliveries == 1
    assert (await bus.consumer_info("WORK", "pool"))["waiting"] == 1


async def test_a_pull_that_is_turned_down_is_asked_again_but_not_at_once(
    server: EmbeddedServer, bus: NatsBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_consumer, "_MAX_WAITING", 1)
    await bus.prepare([WORK], [])
    got: asyncio.Queue[Delivery] = asyncio.Queue()
    consumer = await bus.consume("WORK", "pool", "work.>", got.put)
    next_task = "$JS.API.CONSUMER.MSG.NEXT.WORK.pool"
    asked: list[Message] = []

    async def count(message: Message) -> None:
        asked.append(message)

    async def ignore(message: Message) -> None:
        pass

    async with NatsBus(server.url) as other:
        await other.subscribe(next_task, count)
        taken = await other.subscribe("elsewhere", ignore)
        await other.publish(next_task, b'{"batch":1,"expires":1000000000}', reply="elsewhere")
        await other.stream_info("WORK")  # the server has seen it
        await consumer.want(1)
        await asyncio.sleep(0.6)  # as often as it asks in that time, and no more
        assert 3 <= len(asked) <= 5
        await taken.close()
        await bus.store_and_wait("work.a", b"")
        assert (await asyncio.wait_for(got.get(), 5)).deliveries == 1


# --- answers that do not come --------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "SILENCE_S", 0.2)
    monkeypatch.setattr(publishing, "_SWEEP_S", 0.05)


@pytest.mark.usefixtures("impatient")
async def test_silence(server: EmbeddedServer) -> None:
    """A slot's message is said again and again, and says that it is; any other is given up."""
    async with NatsBus(server.url) as bus, NatsBus(server.url) as other:
        heard: list[Message] = []

        async def hear(message: Message) -> None:
            heard.append(message)

        await other.subscribe("silent.>", hear)
        with pytest.raises(DeadlineExceeded, match="did not say that"):
            await bus.store_and_wait("silent.a", b"", timeout_s=5)
        assert len(heard) == 1
        results: list[Stored | Exception] = []
        await bus.store("silent.slot", b"", once=True, then=results.append)
        with anyio.fail_after(5):
            while len(heard) < 4:
                await asyncio.sleep(0.01)
        assert ["Dspex-Resent" in (message.headers or {}) for message in heard] == [False, False, True, True]
        await other.publish(heard[-1].reply, b'{"stream":"S","seq":7}')
        with anyio.fail_after(5):
            while not results:
                await asyncio.sleep(0.01)
        assert results == [Stored(7)]


@pytest.mark.usefixtures("impatient")
async def test_answers_of_all_kinds(server: EmbeddedServer) -> None:
    """Another write under way is no answer yet for a slot; nonsense is an error; a second answer is ignored."""
    answers = {
        "silent.a": [b'{"error":{"code":400,"err_code":10164,"description":"busy"}}', b'{"seq":1}'],
        "silent.b": [b"nonsense"],
        "silent.c": [b'{"error":{"code":503,"err_code":10077,"description":"full"}}'],
        "silent.d": [b'{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 3"}}'],
    }
    async with NatsBus(server.url) as bus, NatsBus(server.url) as other:

        async def answer(message: Message) -> None:
            await other.publish(message.reply, answers[message.subject].pop(0))

        await other.subscribe("silent.>", answer)
        assert await bus.store_and_wait("silent.a", b"", once=True) == Stored(1)
        with pytest.raises(StoreFailed, match="an answer that is none"):
            await bus.store_and_wait("silent.b", b"", once=True)
        with pytest.raises(StoreFailed, match="full"):
            await bus.store_and_wait("silent.c", b"", once=True)
        assert await bus.store_and_wait("silent.d", b"", once=True) == Stored(0, created=False)


async def test_a_wait_that_is_given_up_goes_on_behind(server: EmbeddedServer) -> None:
    async with Link(server.port) as link, NatsBus(link.url) as bus:
        await bus.prepare([LOG], [])
        link.freeze()
        with pytest.raises(DeadlineExceeded, match="was not stored within"):
            await bus.store_and_wait("log.slot", b"1", once=True, timeout_s=0.1)
        link.thaw()
        with anyio.fail_after(5):
            while await bus.last("LOG", "log.slot") is None:
                await asyncio.sleep(0.01)


async def test_while_there_is_no_connection_a_put_says_so(server: EmbeddedServer, bus: NatsBus) -> None:
    await bus.prepare([], [BucketSpec(name="bucket")])
    await server.kill()
    with anyio.fail_after(5):
        while bus.connected:
            await asyncio.sleep(0.01)
    with pytest.raises(Disconnected):
        await bus.key_value("bucket").get("k")


def test_times_of_the_server() -> None:
    assert milliseconds("2026-11-25T15:31:04.739815523Z") == 1795620664739
    assert milliseconds("2026-11-25T15:31:04Z") == 1795620664000
    assert milliseconds("2026-11-25T15:31:04.7Z") == 1795620664700


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (ApiError(code=404, err_code=10059, description="stream not found"), "not_found", False),
        (ApiError(code=503, err_code=10039, description="not enabled for account"), "no_jetstream", True),
        (ApiError(code=503, err_code=10023, description="insufficient resources"), "store_failed", True),
        (ApiError(code=400, err_code=10165, description="invalid per-message TTL"), "store_failed", False),
    ],
)
def test_what_the_api_s_errors_mean(error: ApiError, code: str, retryable: bool) -> None:
    found = translated(error, "STREAM.INFO.X")
    assert (found.code, found.retryable) == (code, retryable)
    assert error.description in found.message
