"""What is stored: slots written once, history, readers, schedules."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import pytest

from dspex_bus import Bus, StoredMessage
from dspex_bus.errors import DspexError, NotFound, PayloadTooLarge, SetupError, StoreFailed
from dspex_bus.streams import PARTITIONS_KEY

from .conftest import Gathered, Place

pytestmark = pytest.mark.anyio


async def held(bus: Bus, place: Place, pattern: str = "log.>", after: int = 0) -> list[bytes]:
    found = bus.history(place.stream, place.subject(pattern), after=after)
    return [message.data async for message in found]


async def test_what_is_stored_can_be_read(place: Place, bus: Bus) -> None:
    before = time.time() * 1000
    stored = await bus.store_and_wait(place.subject("log.a"), b"1", headers={"Kind": "first"})
    assert stored.created
    message = await bus.last(place.stream, place.subject("log.a"))
    assert message is not None
    assert (message.subject, message.data, message.sequence) == (place.subject("log.a"), b"1", stored.sequence)
    assert (message.headers or {})["Kind"] == "first"
    assert before - 1000 <= message.time_ms <= time.time() * 1000 + 1000
    assert await bus.last(place.stream, place.subject("log.b")) is None


async def test_a_slot_is_written_once_and_what_is_in_it_stays(place: Place, bus: Bus) -> None:
    slot = place.subject("log.slot")
    assert (await bus.store_and_wait(slot, b"first", once=True)).created
    second = await bus.store_and_wait(slot, b"second", once=True)
    assert (second.created, second.sequence) == (False, 0)
    assert await held(bus, place, "log.slot") == [b"first"]


async def test_of_many_that_want_a_slot_one_gets_it(place: Place, bus: Bus) -> None:
    buses = [bus, await place.bus(), await place.bus()]
    won: list[int] = []

    async def write(number: int) -> None:
        stored = await buses[number % 3].store_and_wait(place.subject("log.race"), str(number).encode(), once=True)
        if stored.created:
            won.append(number)

    async with anyio.create_task_group() as group:
        for number in range(60):
            group.start_soon(write, number)
    assert len(won) == 1
    assert await held(bus, place, "log.race") == [str(won[0]).encode()]


async def test_store_tells_by_callback(place: Place, bus: Bus, gathered: Gathered) -> None:
    results: list[Any] = []
    done = anyio.Event()

    def then(result: Any) -> None:
        results.append(result)
        if len(results) == 20:
            done.set()

    for number in range(20):
        await bus.store(place.subject(f"log.{number}"), b"x", once=True, then=then)
    with anyio.fail_after(5):
        await done.wait()
    assert all(result.created for result in results)
    assert [result.sequence for result in results] == sorted(result.sequence for result in results)


async def test_no_stream_takes_it(place: Place, bus: Bus) -> None:
    with pytest.raises(DspexError):
        await bus.store_and_wait(place.subject("nowhere"), b"x", timeout_s=1)


async def test_a_caller_s_headers_are_left_as_they_are(place: Place, bus: Bus) -> None:
    headers = {"Mine": "1"}
    await bus.store_and_wait(place.subject("log.h"), b"x", headers=headers, once=True)
    assert headers == {"Mine": "1"}


async def test_history_is_in_order_by_pattern_and_after_a_sequence(place: Place, bus: Bus) -> None:
    sequences = []
    for number in range(600):  # more than one batch
        stored = await bus.store_and_wait(place.subject(f"log.{number % 3}.{number}"), str(number).encode())
        sequences.append(stored.sequence)
    assert await held(bus, place) == [str(number).encode() for number in range(600)]
    assert await held(bus, place, "log.1.*") == [str(number).encode() for number in range(1, 600, 3)]
    assert await held(bus, place, after=sequences[596]) == [b"597", b"598", b"599"]
    assert await held(bus, place, "log.none.*") == []


async def test_purge_takes_what_matches_and_no_more(place: Place, bus: Bus) -> None:
    for name in ("a.1", "a.2", "b.1"):
        await bus.store_and_wait(place.subject(f"log.{name}"), name.encode())
    assert await bus.purge(place.stream, place.subject("log.a.*")) == 2
    assert await held(bus, place) == [b"b.1"]
    assert (await bus.store_and_wait(place.subject("log.a.1"), b"again", once=True)).created


async def test_purge_below_a_sequence(place: Place, bus: Bus) -> None:
    names = ("a.1", "b.1", "a.2", "a.1", "a.3")
    stored = [await bus.store_and_wait(place.subject(f"log.{name}"), name.encode()) for name in names]
    first, *_, last = [at.sequence for at in stored]
    assert await bus.purge(place.stream, place.subject("log.a.*"), before=first) == 0
    assert await bus.purge(place.stream, place.subject("log.a.*"), before=last) == 3
    assert await held(bus, place) == [b"b.1", b"a.3"]
    assert await bus.purge(place.stream, place.subject("log.a.3"), before=last + 1) == 1


async def test_what_is_stored_on_the_expected_and_nothing_else(place: Place, bus: Bus) -> None:
    slot = place.subject("log.sum")
    first = await bus.store_and_wait(slot, b"1", expect=0, headers={"Kind": "k"})
    assert first.created
    assert not (await bus.store_and_wait(slot, b"other", expect=0)).created
    second = await bus.store_and_wait(slot, b"2", expect=first.sequence)
    assert second.created
    assert not (await bus.store_and_wait(slot, b"late", expect=first.sequence)).created
    assert await held(bus, place) == [b"1", b"2"]
    await bus.purge(place.stream, slot, before=second.sequence)
    assert (await bus.store_and_wait(slot, b"3", expect=second.sequence)).created


async def test_what_is_stored_is_said_with_its_sequence(place: Place, bus: Bus, gathered: Gathered) -> None:
    await bus.subscribe(place.subject("said.>"), gathered.put)
    stored = await bus.store_and_wait(place.subject("log.a"), b"1", headers={"Kind": "k"}, once=True)
    refused = await bus.store_and_wait(place.subject("log.a"), b"2", once=True)
    last = await bus.store_and_wait(place.subject("log.b"), b"3")
    assert not refused.created
    first, second = await gathered.count(2)
    assert (first.subject, first.data) == (place.subject("said.a"), b"1")
    assert ((first.headers or {})["Nats-Sequence"], (first.headers or {})["Kind"]) == (str(stored.sequence), "k")
    assert "Nats-Time-Stamp" in (first.headers or {})
    assert (second.data, (second.headers or {})["Nats-Sequence"]) == (b"3", str(last.sequence))


async def test_a_reader_sees_everything_that_comes_in_order(place: Place, bus: Bus, gathered: Gathered) -> None:
    before = await bus.store_and_wait(place.subject("log.before"), b"before")
    reader = await bus.read(place.stream, [place.subject("log.>")], gathered.put)
    assert reader.start == before.sequence
    for number in range(300):
        await bus.store(place.subject(f"log.{number}"), str(number).encode())
    found: list[StoredMessage] = await gathered.count(300)
    assert [message.data for message in found] == [str(number).encode() for number in range(300)]
    assert [message.sequence for message in found] == sorted({message.sequence for message in found})
    assert reader.last == found[-1].sequence
    await reader.close()
    await reader.close()
    await bus.store_and_wait(place.subject("log.late"), b"late")
    assert len(gathered.all) == 300


async def test_a_reader_of_some_subjects_from_a_sequence(place: Place, bus: Bus, gathered: Gathered) -> None:
    sequences = [
        (await bus.store_and_wait(place.subject(f"log.{name}"), name.encode())).sequence
        for name in ("a.1", "b.1", "c.1", "a.2")
    ]
    patterns = [place.subject("log.a.*"), place.subject("log.c.*")]
    reader = await bus.read(place.stream, patterns, gathered.put, after=sequences[0])
    await bus.store_and_wait(place.subject("log.b.2"), b"b.2")
    await bus.store_and_wait(place.subject("log.a.3"), b"a.3")
    assert [message.data for message in await gathered.count(3)] == [b"c.1", b"a.2", b"a.3"]
    await reader.close()


async def test_two_readers_each_see_everything(place: Place, bus: Bus) -> None:
    ones, others = Gathered(), Gathered()
    readers = [
        await bus.read(place.stream, [place.subject("log.>")], ones.put),
        await (await place.bus()).read(place.stream, [place.subject("log.>")], others.put),
    ]
    await bus.store_and_wait(place.subject("log.a"), b"1")
    assert [message.data for message in await ones.count(1) + await others.count(1)] == [b"1", b"1"]
    for reader in readers:
        await reader.close()


async def test_a_scheduled_message_comes_when_it_is_due(place: Place, bus: Bus, gathered: Gathered) -> None:
    await bus.read(f"T_{place.id}", [place.subject("timed.target.>")], gathered.put)
    at_ms = int(time.time() * 1000) + 300
    await bus.schedule(
        place.subject("timed.at.1"), b"due", at_ms=at_ms, target=place.subject("timed.target.1"), headers={"K": "v"}
    )
    (message,) = await gathered.count(1)
    assert message.data == b"due"
    assert (message.headers or {})["K"] == "v"
    assert message.time_ms >= at_ms - 50


async def test_what_a_stream_tells_of_itself(place: Place, bus: Bus) -> None:
    stored = await bus.store_and_wait(place.subject("log.a"), b"1")
    info = await bus.stream_info(place.stream)
    assert (info["messages"], info["last_sequence"], info["storage"]) == (1, stored.sequence, "memory")
    assert info["metadata"]["color"] == "blue"
    with pytest.raises(NotFound):
        await bus.stream_info("S_nowhere")


@pytest.mark.parametrize("off_ms", [3_600_000, -3_600_000])
async def test_who_asks_about_a_stream_is_told_the_time(place: Place, bus: Bus, off_ms: int) -> None:
    """The time by which messages are stamped."""
    bus.clock.ahead_ms += off_ms
    await bus.stream_info(place.stream)
    await bus.store_and_wait(place.subject("log.a"), b"1")
    message = await bus.last(place.stream, place.subject("log.a"))
    assert message is not None
    assert abs(bus.clock.now_ms() - message.time_ms) < 60_000


async def test_preparing_again_keeps_what_is_there(place: Place, bus: Bus) -> None:
    await bus.store_and_wait(place.subject("log.a"), b"1")
    other = await place.bus()
    await other.prepare(*place.specs())
    assert await held(other, place) == [b"1"]


async def test_what_is_due_already_comes_at_once(place: Place, bus: Bus, gathered: Gathered) -> None:
    await bus.read(f"T_{place.id}", [place.subject("timed.target.>")], gathered.put)
    await bus.schedule(place.subject("timed.at.1"), b"late", at_ms=1, target=place.subject("timed.target.1"))
    assert [message.data for message in await gathered.count(1)] == [b"late"]


async def test_a_schedule_that_is_purged_never_comes(place: Place, bus: Bus, gathered: Gathered) -> None:
    stream, target = f"T_{place.id}", place.subject("timed.target.1")
    await bus.read(stream, [place.subject("timed.target.>")], gathered.put)
    now_ms = int(time.time() * 1000)
    await bus.schedule(place.subject("timed.at.1"), b"1", at_ms=now_ms + 300, target=target)
    await bus.schedule(place.subject("timed.at.2"), b"2", at_ms=now_ms + 400, target=target)
    assert await bus.purge(stream, place.subject("timed.at.1")) == 1
    assert [message.data for message in await gathered.count(1)] == [b"2"]


async def test_where_nothing_is_scheduled(place: Place, bus: Bus) -> None:
    targets = {"log.at": "log.target", "timed.at": "elsewhere", "nowhere": "nowhere.too"}
    for subject, target in targets.items():
        with pytest.raises(StoreFailed):
            await bus.schedule(place.subject(subject), b"", at_ms=1, target=place.subject(target))


async def test_reading_a_stream_that_is_not_there(place: Place, bus: Bus, gathered: Gathered) -> None:
    async def history() -> None:
        async for _ in bus.history("S_nowhere", place.subject("log.>")):
            pass

    async def slots() -> None:
        async for _ in bus.slots("S_nowhere", place.subject("log.>")):
            pass

    for attempt in (
        slots(),
        bus.last("S_nowhere", place.subject("log.a")),
        history(),
        bus.read("S_nowhere", [place.subject("log.>")], gathered.put),
        bus.purge("S_nowhere", place.subject("log.a")),
        bus.stream_info("S_nowhere"),
    ):
        with pytest.raises(NotFound):
            await attempt


async def test_how_it_was_to_be_stored_is_not_stored_with_it(place: Place, bus: Bus, gathered: Gathered) -> None:
    """Who sends a message on must not send on the condition under which it was stored."""
    await bus.subscribe(place.subject("said.>"), gathered.put)
    await bus.read(place.stream, [place.subject("log.>")], gathered.put)
    await bus.store_and_wait(place.subject("log.a"), b"1", headers={"Kind": "k"}, once=True)
    last = await bus.last(place.stream, place.subject("log.a"))
    (held,) = [message async for message in bus.history(place.stream, place.subject("log.a"))]
    for message in (last, held, *await gathered.count(2)):
        assert message is not None
        assert (message.headers or {})["Kind"] == "k"
        assert "Nats-Expected-Last-Subject-Sequence" not in (message.headers or {})
    assert len({last.sequence, held.sequence} if last else {}) == 1


async def test_much_history(place: Place, bus: Bus) -> None:
    """More bytes than a batch may have, in fewer messages than a batch may have."""
    for number in range(30):
        await bus.store_and_wait(place.subject(f"log.{number}"), bytes([number]) * 400_000)
    assert [data[:1] for data in await held(bus, place)] == [bytes([number]) for number in range(30)]


@pytest.mark.parametrize("count", [0, 3, 600, 1500])
async def test_slots_are_found_by_their_subjects(place: Place, bus: Bus, count: int) -> None:
    """More than a batch holds, and more than a server looks up at once."""
    await bus.store_and_wait(place.subject("log.other"), b"")
    async with anyio.create_task_group() as group:
        for number in range(count):
            subject = place.subject(f"log.slots.{number}")
            group.start_soon(partial(bus.store_and_wait, subject, str(number).encode(), once=True))
    found = [message async for message in bus.slots(place.stream, place.subject("log.slots.>"))]
    assert [message.sequence for message in found] == sorted(message.sequence for message in found)
    assert {message.data for message in found} == {str(number).encode() for number in range(count)}
    assert len(found) == count


async def test_the_newest_of_a_subject_is_in_its_slot(place: Place, bus: Bus) -> None:
    for subject, data in (("log.a.1", b"old"), ("log.a.2", b"2"), ("log.a.1", b"new")):
        await bus.store_and_wait(place.subject(subject), data)
    found = bus.slots(place.stream, place.subject("log.a.*"))
    assert [message.data async for message in found] == [b"2", b"new"]


async def test_a_message_published_to_a_stream_is_acknowledged(place: Place, bus: Bus) -> None:
    answer = json.loads((await bus.request(place.subject("log.a"), b"1")).data)
    assert answer["seq"] == (await bus.stream_info(place.stream))["last_sequence"]
    headers = {"Nats-Expected-Last-Subject-Sequence": "0"}
    refused = json.loads((await bus.request(place.subject("log.a"), b"2", headers=headers)).data)
    assert refused["error"]["err_code"] == 10071
    assert await held(bus, place) == [b"1"]


async def test_too_much_to_store(place: Place, bus: Bus) -> None:
    with pytest.raises(PayloadTooLarge):
        await bus.store_and_wait(place.subject("log.a"), b"x" * (bus.max_payload - 50), once=True, headers={"K": "v"})
    assert (await bus.store_and_wait(place.subject("log.a"), b"x" * (bus.max_payload - 200), once=True)).created


async def test_a_callback_that_raises_spoils_nothing(place: Place, bus: Bus) -> None:
    def then(result: Any) -> None:
        raise ValueError("what a result")

    await bus.store(place.subject("log.a"), b"1", then=then)
    await bus.store(place.subject("log.b"), b"2")
    assert (await bus.store_and_wait(place.subject("log.c"), b"3")).created
    assert await held(bus, place) == [b"1", b"2", b"3"]


async def test_a_stream_is_brought_up_to_date(place: Place, bus: Bus) -> None:
    streams, buckets = place.specs()
    log = replace(streams[0], metadata={PARTITIONS_KEY: "4", "color": "blue"})
    await bus.prepare([log, *streams[1:]], buckets)
    await bus.store_and_wait(place.subject("log.a"), b"1")
    wider = replace(
        log, subjects=(*log.subjects, place.subject("more.>")), metadata={PARTITIONS_KEY: "8", "shape": "round"}
    )
    await (await place.bus()).prepare([wider], [])
    await bus.store_and_wait(place.subject("more.a"), b"2")
    assert [message.data async for message in bus.history(place.stream, ">")] == [b"1", b"2"]
    metadata = (await bus.stream_info(place.stream))["metadata"]
    # Sessions are placed by the first count of partitions: that one stays.
    assert (metadata[PARTITIONS_KEY], metadata["color"], metadata["shape"]) == ("4", "blue", "round")


async def test_what_a_stream_can_never_become(place: Place, bus: Bus) -> None:
    streams, _ = place.specs()
    for other in (replace(streams[0], storage="file"), replace(streams[0], work_queue=True)):
        with pytest.raises(SetupError, match=place.stream):
            await bus.prepare([other], [])
    assert (await bus.stream_info(place.stream))["storage"] == "memory"


async def test_many_prepare_at_the_same_time(place: Place) -> None:
    buses = [await place.bus() for _ in range(5)]
    async with anyio.create_task_group() as group:
        for each in buses:
            group.start_soon(each.prepare, *place.specs())
    assert (await buses[0].store_and_wait(place.subject("log.a"), b"1")).created


async def test_a_reader_that_closes_itself(place: Place, bus: Bus, gathered: Gathered) -> None:
    async def once(message: StoredMessage) -> None:
        await reader.close()
        await gathered.put(message)

    reader = await bus.read(place.stream, [place.subject("log.>")], once)
    for name in ("a", "b"):
        await bus.store_and_wait(place.subject(f"log.{name}"), name.encode())
    await gathered.count(1)
    assert (await bus.stream_info(place.stream))["messages"] == 2
    assert [message.data for message in gathered.all] == [b"a"]
