"""Key-value buckets and objects."""

from __future__ import annotations

import hashlib
import time

import anyio
import pytest

from dspex_bus import Bus, Entry
from dspex_bus.errors import Conflict, DspexError, NotFound, PayloadTooLarge, StoreFailed
from dspex_bus.streams import BucketSpec

from .conftest import Place

pytestmark = pytest.mark.anyio


async def test_put_and_get(place: Place, bus: Bus) -> None:
    bucket = bus.key_value(place.bucket)
    assert await bucket.get("a.b") is None
    first = await bucket.put("a.b", b"")
    entry = await bucket.get("a.b")
    assert entry is not None
    assert (entry.value, entry.revision) == (b"", first)
    second = await bucket.put("a.b", b"2")
    assert second > first
    there = await (await place.bus()).key_value(place.bucket).get("a.b")
    assert there is not None
    assert (there.value, there.revision) == (b"2", second)


async def test_create_and_compare_and_swap(place: Place, bus: Bus) -> None:
    bucket = bus.key_value(place.bucket)
    first = await bucket.create("k", b"1")
    with pytest.raises(Conflict):
        await bucket.create("k", b"2")
    second = await bucket.update("k", b"2", first)
    with pytest.raises(Conflict):
        await bucket.update("k", b"3", first)
    entry = await bucket.get("k")
    assert entry is not None
    assert (entry.value, entry.revision) == (b"2", second)


async def test_of_many_that_swap_one_wins(place: Place, bus: Bus) -> None:
    bucket = bus.key_value(place.bucket)
    revision = await bucket.create("k", b"0")
    won: list[int] = []

    async def swap(number: int) -> None:
        try:
            await bucket.update("k", str(number).encode(), revision)
            won.append(number)
        except Conflict:
            pass

    async with anyio.create_task_group() as group:
        for number in range(1, 30):
            group.start_soon(swap, number)
    assert len(won) == 1


async def test_deleted_keys_leave_nothing(place: Place, bus: Bus) -> None:
    bucket = bus.key_value(place.bucket)
    await bucket.put("k", b"1")
    await bucket.delete("k")
    await bucket.delete("k")
    assert await bucket.get("k") is None
    assert await bucket.keys() == []
    await bucket.create("k", b"2")


async def test_a_key_is_deleted_at_its_revision_and_at_no_other(place: Place, bus: Bus) -> None:
    bucket = bus.key_value(place.bucket)
    first = await bucket.put("k", b"1")
    second = await bucket.put("k", b"2")
    await bucket.delete("k", revision=first)
    assert await bucket.get("k") == Entry(b"2", second)
    await bucket.delete("k", revision=second)
    await bucket.delete("k", revision=second)
    assert await bucket.get("k") is None
    await bucket.create("k", b"3")


async def test_keys_by_pattern(place: Place, bus: Bus) -> None:
    bucket = bus.key_value(place.bucket)
    for key in ("1.b", "1.a", "2.a", "x"):
        await bucket.put(key, b"")
    assert await bucket.keys() == ["1.a", "1.b", "2.a", "x"]
    assert await bucket.keys("1.*") == ["1.a", "1.b"]
    assert await bucket.keys("*.a") == ["1.a", "2.a"]
    assert await bucket.keys("3.*") == []
    assert await bucket.count() == 4


async def test_a_key_that_expires(place: Place, bus: Bus) -> None:
    bucket = bus.key_value(place.expiring)
    await bucket.put("stays", b"1")
    await bucket.put("goes", b"1", ttl_s=1)
    assert await bucket.get("goes") is not None
    with anyio.fail_after(5):
        while await bucket.get("goes") is not None:
            await anyio.sleep(0.05)
    await bucket.create("goes", b"2", ttl_s=1)
    assert await bucket.get("stays") is not None


async def test_a_life_too_short(place: Place, bus: Bus) -> None:
    with pytest.raises(DspexError):
        await bus.key_value(place.expiring).put("k", b"", ttl_s=0.5)


@pytest.mark.parametrize("size", [0, 1, 128 * 1024, 128 * 1024 + 1, 3_000_000])
async def test_objects(place: Place, bus: Bus, size: int) -> None:
    objects = bus.objects(f"o_{place.id}")
    assert await objects.get("name with blanks/and.dots") is None
    data = bytes(index % 251 for index in range(min(size, 100_000))) * (size // 100_000 or 1)
    digest = await objects.put("name with blanks/and.dots", data)
    assert digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert await (await place.bus()).objects(f"o_{place.id}").get("name with blanks/and.dots") == data


async def test_an_object_is_replaced_and_deleted(place: Place, bus: Bus) -> None:
    objects = bus.objects(f"o_{place.id}")
    await objects.put("a", b"1" * 200_000)
    await objects.put("a", b"2")
    await objects.put("b", b"3")
    assert await objects.get("a") == b"2"
    await objects.delete("a")
    await objects.delete("a")
    assert (await objects.get("a"), await objects.get("b")) == (None, b"3")


async def test_a_life_is_renewed_by_the_next_write(place: Place, bus: Bus) -> None:
    bucket = bus.key_value(place.expiring)
    revision = await bucket.create("lease", b"1", ttl_s=1)
    await bucket.put("other", b"1", ttl_s=1)
    revision = await bucket.update("lease", b"2", revision, ttl_s=3)
    await bucket.put("kept", b"1", ttl_s=1)
    await bucket.put("kept", b"2")
    with anyio.fail_after(5):
        while await bucket.get("other") is not None:
            await anyio.sleep(0.05)
    assert await bucket.get("lease") == Entry(b"2", revision)
    assert (await bucket.get("kept") or Entry(b"", 0)).value == b"2"


async def test_a_bucket_made_without_lives(place: Place, bus: Bus) -> None:
    with pytest.raises(StoreFailed) as refused:
        await bus.key_value(place.bucket).put("k", b"", ttl_s=1)
    assert not refused.value.retryable


async def test_a_bucket_that_is_not_there(place: Place, bus: Bus) -> None:
    bucket = bus.key_value(f"none_{place.id}")
    for attempt in (bucket.get("k"), bucket.keys(), bucket.delete("k")):
        with pytest.raises(NotFound):
            await attempt
    with pytest.raises(StoreFailed):
        await bucket.put("k", b"")


async def test_objects_of_a_bucket_that_is_not_there(place: Place, bus: Bus) -> None:
    objects = bus.objects(f"none_{place.id}")
    assert await objects.get("a") is None
    await objects.delete("a")


async def test_what_is_in_a_bucket_of_objects(place: Place, bus: Bus) -> None:
    objects = bus.objects(f"o_{place.id}")
    assert await objects.contents() == []
    before = int(time.time() * 1000)
    for name, data in (("a", b"1"), ("b", b"2" * 300_000), ("c", b""), ("a", b"11")):
        await objects.put(name, data)
    await objects.delete("c")
    found = await objects.contents()
    assert [(info.name, info.size) for info in found] == [("b", 300_000), ("a", 2)]
    assert found[1].digest == f"sha256:{hashlib.sha256(b'11').hexdigest()}"
    times = [info.modified_ms for info in found]
    assert times == sorted(times)
    assert before - 1000 <= times[0] <= times[1] <= int(time.time() * 1000) + 1000
    assert await objects.tidy(int(time.time() * 1000) + 60_000) == 0
    assert await objects.get("b") == b"2" * 300_000


async def test_a_bucket_takes_no_larger_objects_than_it_was_made_for(place: Place, bus: Bus) -> None:
    name = f"o_{place.id}"
    await bus.prepare([], [BucketSpec(name=name, largest=1000, storage="memory")])
    objects = (await place.bus()).objects(name)
    await objects.put("fits", b"x" * 1000)
    with pytest.raises(PayloadTooLarge) as refusal:
        await objects.put("does not", b"x" * 1001)
    assert refusal.value.details == {"size": 1001, "limit": 1000}
    assert [info.name for info in await objects.contents()] == ["fits"]
    await bus.prepare([], [BucketSpec(name=name, largest=2000, storage="memory")])
    await objects.put("does not", b"x" * 1001)
