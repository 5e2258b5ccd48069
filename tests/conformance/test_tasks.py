"""Work queues: each task to one worker, until it is acknowledged."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from dspex_bus import Bus, Consumer, Delivery
from dspex_bus.errors import NotFound

from .conftest import Gathered, Place

pytestmark = pytest.mark.anyio


async def joined(bus: Bus, place: Place, gathered: Gathered, *, ack_wait_s: float = 30) -> Consumer:
    return await bus.consume(place.tasks, "pool", place.subject("task.>"), gathered.put, ack_wait_s=ack_wait_s)


async def put(bus: Bus, place: Place, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        await bus.store_and_wait(place.subject(f"task.{number}"), str(number).encode(), once=True)


def numbers(deliveries: list[Delivery]) -> list[int]:
    return [int(delivery.data) for delivery in deliveries]


async def until(bus: Bus, place: Place, **counts: int) -> None:
    """Until the consumer's own counts are these."""
    with anyio.fail_after(5):
        while True:
            info = await bus.consumer_info(place.tasks, "pool")
            if all(info[name] == count for name, count in counts.items()):
                return
            await anyio.sleep(0.01)


async def test_nothing_comes_before_it_is_wanted_and_then_as_much_as_is_wanted(
    place: Place, bus: Bus, gathered: Gathered
) -> None:
    consumer = await joined(bus, place, gathered)
    await put(bus, place, 10)
    await until(bus, place, pending=10, ack_pending=0)
    await consumer.want(3)
    assert numbers(await gathered.count(3)) == [0, 1, 2]
    await until(bus, place, pending=7, ack_pending=3)
    await consumer.want(1)
    await consumer.want(1)
    await gathered.count(5)
    await until(bus, place, pending=5, ack_pending=5)
    assert all(delivery.deliveries == 1 for delivery in gathered.all)


async def test_what_is_wanted_waits_for_tasks(place: Place, bus: Bus, gathered: Gathered) -> None:
    consumer = await joined(bus, place, gathered)
    await consumer.want(2)
    await put(bus, place, 5)
    assert numbers(await gathered.count(2)) == [0, 1]
    await until(bus, place, pending=3)


async def test_workers_share_a_pool_s_tasks(place: Place, bus: Bus, gathered: Gathered) -> None:
    for client in (bus, await place.bus()):
        await (await joined(client, place, gathered)).want(10)
    await put(bus, place, 20)
    assert sorted(numbers(await gathered.count(20))) == list(range(20))


async def test_what_is_acknowledged_is_gone(place: Place, bus: Bus, gathered: Gathered) -> None:
    consumer = await joined(bus, place, gathered)
    await put(bus, place, 2)
    await consumer.want(2)
    for delivery in await gathered.count(2):
        await delivery.ack()
    with anyio.fail_after(5):
        while (await bus.stream_info(place.tasks))["messages"]:
            await anyio.sleep(0.01)
    assert (await bus.store_and_wait(place.subject("task.0"), b"0", once=True)).created


async def test_what_is_not_acknowledged_comes_again(place: Place, bus: Bus, gathered: Gathered) -> None:
    consumer = await joined(bus, place, gathered, ack_wait_s=0.2)
    await put(bus, place, 1)
    await consumer.want(2)
    first, second = await gathered.count(2)
    assert (first.data, first.deliveries, second.data, second.deliveries) == (b"0", 1, b"0", 2)
    await second.ack()


async def test_a_task_in_progress_is_left_alone(place: Place, bus: Bus, gathered: Gathered) -> None:
    consumer = await joined(bus, place, gathered, ack_wait_s=0.5)
    await put(bus, place, 1)
    await consumer.want(2)
    (delivery,) = await gathered.count(1)
    for _ in range(10):
        await anyio.sleep(0.12)  # ten of these are twice its time: it may not come again
        await delivery.in_progress()
    assert len(gathered.all) == 1
    await delivery.ack()


async def test_what_is_given_back_comes_again_to_anybody(place: Place, bus: Bus, gathered: Gathered) -> None:
    others = Gathered()
    consumer = await joined(bus, place, gathered)
    await put(bus, place, 1)
    await consumer.want(1)
    (delivery,) = await gathered.count(1)
    await (await joined(await place.bus(), place, others)).want(1)
    await delivery.nak()
    (again,) = await others.count(1)
    assert (again.data, again.deliveries) == (b"0", 2)
    await again.ack()


async def test_what_is_given_back_for_later_comes_later(place: Place, bus: Bus, gathered: Gathered) -> None:
    consumer = await joined(bus, place, gathered)
    await put(bus, place, 1)
    await consumer.want(2)
    (delivery,) = await gathered.count(1)
    began = anyio.current_time()
    await delivery.nak(0.3)
    await gathered.count(2)
    assert anyio.current_time() - began >= 0.25


async def test_a_paused_consumer_gets_nothing_more_and_can_acknowledge(
    place: Place, bus: Bus, gathered: Gathered
) -> None:
    consumer = await joined(bus, place, gathered)
    await consumer.want(5)
    await put(bus, place, 1)
    (delivery,) = await gathered.count(1)
    await consumer.pause()
    await put(bus, place, 3, first=1)
    await delivery.ack()
    others = Gathered()
    await (await joined(await place.bus(), place, others)).want(5)
    assert sorted(numbers(await others.count(3))) == [1, 2, 3]
    assert len(gathered.all) == 1
    await consumer.close()
    await consumer.close()


async def test_deliveries_of_which_nobody_knows_are_found_and_given_back(
    place: Place, bus: Bus, gathered: Gathered
) -> None:
    consumer = await joined(bus, place, gathered)
    await put(bus, place, 4)
    await consumer.want(4)
    first, done, known, lost = await gathered.count(4)
    await done.ack()
    await first.nak()  # once more: its receipt is another one then
    await consumer.want(1)
    again = (await gathered.count(5))[4]
    with anyio.fail_after(5):
        while len(found := await bus.unclaimed(place.tasks, "pool", [known.receipt, again.receipt])) != 1:
            await anyio.sleep(0.01)
    await consumer.want(1)
    await bus.give_back(*found.values())
    came = (await gathered.count(6))[5]
    assert (came.data, came.deliveries) == (lost.data, 2)
    assert len(await bus.unclaimed(place.tasks, "pool", [])) == 3
    with pytest.raises(NotFound):
        await bus.unclaimed(place.tasks, "nobody", [])


async def test_headers_and_data_of_a_task(place: Place, bus: Bus, gathered: Gathered) -> None:
    consumer = await joined(bus, place, gathered)
    await bus.store_and_wait(place.subject("task.x"), b"\xff", headers={"Resent": "1"}, once=True)
    await consumer.want(1)
    (delivery,) = await gathered.count(1)
    assert (delivery.subject, delivery.data) == (place.subject("task.x"), b"\xff")
    assert (delivery.headers or {})["Resent"] == "1"


async def test_tasks_are_purged_by_pattern(place: Place, bus: Bus, gathered: Gathered) -> None:
    await put(bus, place, 3)
    assert await bus.purge(place.tasks, place.subject("task.1")) == 1
    consumer = await joined(bus, place, gathered)
    await consumer.want(3)
    assert numbers(await gathered.count(2)) == [0, 2]


async def test_a_consumer_that_is_not_there(place: Place, bus: Bus) -> None:
    with pytest.raises(NotFound):
        await bus.consumer_info(place.tasks, "nobody")
    with pytest.raises(NotFound):
        await bus.consume("W_nowhere", "pool", place.subject("task.>"), _ignored)


async def _ignored(_delivery: Any) -> None:
    pass


async def test_a_paused_consumer_may_want_again(place: Place, bus: Bus, gathered: Gathered) -> None:
    consumer = await joined(bus, place, gathered)
    await consumer.want(2)
    await consumer.pause()
    await put(bus, place, 3)
    await until(bus, place, pending=3, ack_pending=0)
    await consumer.want(1)
    (delivery,) = await gathered.count(1)
    assert (int(delivery.data), delivery.deliveries) == (0, 1)
    await until(bus, place, pending=2, ack_pending=1)


async def test_a_consumer_that_pauses_in_a_callback_gives_back_the_rest(
    place: Place, bus: Bus, gathered: Gathered
) -> None:
    await put(bus, place, 3)

    async def once(delivery: Delivery) -> None:
        await consumer.pause()
        await delivery.ack()
        await gathered.put(delivery)

    consumer = await bus.consume(place.tasks, "pool", place.subject("task.>"), once, ack_wait_s=30)
    await consumer.want(1)
    await gathered.count(1)
    others = Gathered()
    await (await joined(await place.bus(), place, others)).want(5)
    assert sorted(numbers(await others.count(2))) == [1, 2]
    assert numbers(gathered.all) == [0]


async def test_what_a_closed_consumer_wants_is_nothing(place: Place, bus: Bus, gathered: Gathered) -> None:
    consumer = await joined(bus, place, gathered)
    await consumer.want(3)
    await consumer.close()
    await consumer.want(3)
    await put(bus, place, 2)
    await until(bus, place, pending=2, ack_pending=0)
    assert gathered.all == []


async def test_redeliveries_are_counted(place: Place, bus: Bus, gathered: Gathered) -> None:
    consumer = await joined(bus, place, gathered)
    await put(bus, place, 1)
    await consumer.want(3)
    await (await gathered.count(1))[0].nak()
    await (await gathered.count(2))[1].nak()
    assert [delivery.deliveries for delivery in await gathered.count(3)] == [1, 2, 3]
    await until(bus, place, redelivered=1, ack_pending=1)
    await gathered.all[2].ack()
    await until(bus, place, redelivered=0, ack_pending=0, pending=0)


async def test_a_late_acknowledgement_counts(place: Place, bus: Bus, gathered: Gathered) -> None:
    """Who acknowledges after the ack wait has still done the task: it is gone, though somebody else has it too."""
    consumer = await joined(bus, place, gathered, ack_wait_s=0.2)
    await put(bus, place, 1)
    await consumer.want(2)
    first, second = await gathered.count(2)
    assert (first.deliveries, second.deliveries) == (1, 2)
    await first.ack()
    await until(bus, place, pending=0, ack_pending=0)
    await second.nak()
    await second.in_progress()
    await second.ack()
    assert (await bus.stream_info(place.tasks))["messages"] == 0


async def test_a_consumer_of_a_stream_that_keeps_its_messages(place: Place, bus: Bus, gathered: Gathered) -> None:
    await bus.store_and_wait(place.subject("log.a"), b"1")
    consumer = await bus.consume(place.stream, "follower", place.subject("log.>"), gathered.put)
    await consumer.want(2)
    await (await gathered.count(1))[0].ack()
    await bus.store_and_wait(place.subject("log.b"), b"2")
    await gathered.count(2)
    assert (await bus.stream_info(place.stream))["messages"] == 2


async def test_a_consumer_takes_only_its_own_subjects(place: Place, bus: Bus, gathered: Gathered) -> None:
    consumer = await bus.consume(place.tasks, "mine", place.subject("task.mine.>"), gathered.put)
    await consumer.want(5)
    for name in ("mine.1", "theirs.1", "mine.2"):
        await bus.store_and_wait(place.subject(f"task.{name}"), name.encode())
    assert [delivery.data for delivery in await gathered.count(2)] == [b"mine.1", b"mine.2"]
    assert (await bus.stream_info(place.tasks))["messages"] == 3
