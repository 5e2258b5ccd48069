"""Two levels, one call for equal misses, renewal before the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from dspex_bus.errors import DspexError, InvalidRequest
from dspex_bus.streams import CACHE
from dspex_services.cache import Cache, Found, Made, key
from dspex_services.cache.entry import Entry, decode, encode, is_due, is_fresh
from dspex_services.cache.memory import Memory
from dspex_services.cache.shared import Lease

pytestmark = pytest.mark.anyio

KEY = key("value", "what")


class Maker:
    """Makes numbered values; waits in the middle where a test asks it to."""

    def __init__(self, *, held: bool = False, failing: Exception | None = None, keep: bool = True) -> None:
        self.calls = 0
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.failing = failing
        self.keep = keep
        if not held:
            self.go.set()

    async def __call__(self) -> Made:
        self.calls += 1
        self.begun.set()
        await asyncio.wait_for(self.go.wait(), 20)
        if self.failing is not None:
            raise self.failing
        return Made(f"value {self.calls}".encode(), self.keep)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


async def test_a_value_is_made_once_and_found_in_memory(caches: Any) -> None:
    cache, maker = await caches(), Maker()
    found = [await cache.fetch(KEY, maker, ttl_s=60) for _ in range(3)]
    assert found == [Found(b"value 1", False), Found(b"value 1", True), Found(b"value 1", True)]
    report = cache.report()
    assert (report.misses, report.memory_hits, report.entries) == (1, 2, 1)


async def test_another_process_finds_it_on_the_bus(caches: Any) -> None:
    one, other, maker = await caches("one"), await caches("other"), Maker()
    await one.fetch(KEY, maker, ttl_s=60)
    assert await other.fetch(KEY, maker, ttl_s=60) == Found(b"value 1", True)
    assert other.report().shared_hits == 1
    assert other.peek(KEY, 60) == b"value 1", "and keeps it in its memory"


@pytest.mark.parametrize("where", ["one process", "two processes"])
async def test_equal_concurrent_misses_make_one_call(caches: Any, where: str) -> None:
    one = await caches("one")
    other = await caches("other") if where == "two processes" else one
    maker = Maker(held=True)
    calls = [asyncio.create_task(cache.fetch(KEY, maker, ttl_s=60)) for cache in [one, other] * 8]
    await asyncio.wait_for(maker.begun.wait(), 10)
    await asyncio.sleep(0.1)  # nobody else may begin meanwhile
    maker.go.set()
    found = await asyncio.wait_for(asyncio.gather(*calls), 10)
    assert maker.calls == 1
    assert {each.value for each in found} == {b"value 1"}
    assert sum(not each.hit for each in found) == 1


@pytest.mark.parametrize("where", ["one process", "two processes"])
async def test_an_error_of_the_one_call_is_everybodys(caches: Any, where: str) -> None:
    one = await caches("one")
    other = await caches("other") if where == "two processes" else one
    maker = Maker(held=True, failing=InvalidRequest("no such model", code="lm_bad_request"))
    first = asyncio.create_task(one.fetch(KEY, maker, ttl_s=60))
    await asyncio.wait_for(maker.begun.wait(), 10)
    others = [asyncio.create_task(other.fetch(KEY, maker, ttl_s=60)) for _ in range(5)]
    await asyncio.sleep(0.1)  # nobody else may begin meanwhile
    maker.go.set()
    ended = await asyncio.wait_for(asyncio.gather(first, *others, return_exceptions=True), 10)
    assert maker.calls == 1
    assert [error.code for error in ended if isinstance(error, DspexError)] == ["lm_bad_request"] * 6
    maker.failing = None
    assert (await one.fetch(KEY, maker, ttl_s=60)).value == b"value 2", "an error is not kept"


@pytest.mark.parametrize("where", ["one process", "two processes"])
@pytest.mark.parametrize("how", ["cancelled", "broken"])
async def test_one_that_gives_up_leaves_it_to_the_next(caches: Any, where: str, how: str) -> None:
    one = await caches("one")
    other = await caches("other") if where == "two processes" else one
    stuck, maker = Maker(held=True, failing=LookupError("a bug")), Maker()
    first = asyncio.create_task(one.fetch(KEY, stuck, ttl_s=60))
    await asyncio.wait_for(stuck.begun.wait(), 10)
    next_ = asyncio.create_task(other.fetch(KEY, maker, ttl_s=60))
    await asyncio.sleep(0.1)  # it must not begin while the first has it
    assert maker.calls == 0
    if how == "cancelled":
        first.cancel()
    else:
        stuck.go.set()
    assert (await asyncio.wait_for(next_, 10)).value == b"value 1"
    (ended,) = await asyncio.gather(first, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError if how == "cancelled" else LookupError)


async def test_the_lease_of_one_that_died_runs_out(caches: Any, connect: Any) -> None:
    cache, maker = await caches("one", lease_s=1.0), Maker()
    async with connect("dead") as bus:
        await bus.key_value(CACHE).create(f"lease.{KEY}", b"dead", ttl_s=1.0)
    assert (await asyncio.wait_for(cache.fetch(KEY, maker, ttl_s=60), 10)).value == b"value 1"


async def test_a_long_call_keeps_its_lease(caches: Any) -> None:
    one, other, maker = await caches("one", lease_s=1.0), await caches("other", lease_s=1.0), Maker(held=True)
    calls = [asyncio.create_task(cache.fetch(KEY, maker, ttl_s=60)) for cache in (one, other)]
    await asyncio.wait_for(maker.begun.wait(), 10)
    await asyncio.sleep(1.5)  # half as long again as a lease that nobody renews
    maker.go.set()
    assert {found.value for found in await asyncio.gather(*calls)} == {b"value 1"}
    assert maker.calls == 1


async def test_what_is_too_old_is_made_anew(caches: Any) -> None:
    clock, maker = Clock(), Maker()
    one, other = await caches("one", clock=clock), await caches("other", clock=clock)
    await one.fetch(KEY, maker, ttl_s=60)
    clock.now += 59
    assert (await one.fetch(KEY, maker, ttl_s=60)).hit
    assert not (await one.fetch(KEY, maker, ttl_s=30)).hit, "who wants it fresher gets it fresher"
    assert (await other.fetch(KEY, maker, ttl_s=30)).hit
    clock.now += 61
    assert not (await other.fetch(KEY, maker, ttl_s=60)).hit
    assert maker.calls == 3


async def test_the_bus_forgets_it_after_its_time(caches: Any, connect: Any) -> None:
    cache = await caches()
    await cache.fetch(KEY, Maker(), ttl_s=1)
    async with connect("reader") as bus, asyncio.timeout(10):
        assert await bus.key_value(CACHE).keys() == [KEY], "no lease is left"
        while await bus.key_value(CACHE).get(KEY) is not None:
            await asyncio.sleep(0.05)


async def test_renewal_takes_nothing_that_was_there_before(caches: Any) -> None:
    one, other, maker = await caches("one"), await caches("other"), Maker()
    await one.fetch(KEY, maker, ttl_s=60)
    assert await other.fetch(KEY, maker, ttl_s=60, renew=True) == Found(b"value 2", False)
    assert (await other.fetch(KEY, maker, ttl_s=60)).value == b"value 2"


async def test_one_renews_what_is_about_to_expire_and_the_others_still_get_it(
    caches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    one, other = await caches("one", clock=clock), await caches("other", clock=clock)
    slow = Maker(held=True)

    async def taking_ten_seconds() -> Made:
        clock.now += 10
        return Made(b"old")

    await one.fetch(KEY, taking_ten_seconds, ttl_s=60)
    assert (await other.fetch(KEY, slow, ttl_s=60)).value == b"old"
    clock.now += 55
    monkeypatch.setattr("dspex_services.cache.cache.random.random", lambda: 0.99)  # the one who is to renew it
    renewing = asyncio.create_task(one.fetch(KEY, slow, ttl_s=60))
    await asyncio.wait_for(slow.begun.wait(), 10)
    assert await one.fetch(KEY, Maker(), ttl_s=60) == Found(b"old", True), "in the same process"
    assert await other.fetch(KEY, Maker(), ttl_s=60) == Found(b"old", True), "and in another, where it is due too"
    slow.go.set()
    assert await asyncio.wait_for(renewing, 10) == Found(b"value 1", False)
    assert one.report().renewed == 1


async def test_a_renewal_that_fails_leaves_what_is_good_for_a_while_yet(
    caches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    cache = await caches(clock=clock)

    async def slowly() -> Made:
        clock.now += 10
        return Made(b"old")

    await cache.fetch(KEY, slowly, ttl_s=60)
    clock.now += 55
    monkeypatch.setattr("dspex_services.cache.cache.random.random", lambda: 0.99)
    assert await cache.fetch(KEY, Maker(failing=InvalidRequest("down")), ttl_s=60) == Found(b"old", True)


async def test_what_is_not_to_be_kept_is_handed_over_and_forgotten(caches: Any) -> None:
    cache, maker = await caches(), Maker(keep=False)
    assert [(await cache.fetch(KEY, maker, ttl_s=60)).value for _ in range(2)] == [b"value 1", b"value 2"]


@pytest.mark.parametrize("ttl_s", [1e12, float("inf")])
async def test_what_is_kept_for_ever_is_shared_as_well(caches: Any, ttl_s: float) -> None:
    one, other = await caches("one"), await caches("other")
    await one.fetch(KEY, Maker(), ttl_s=ttl_s)
    assert (await other.fetch(KEY, Maker(), ttl_s=ttl_s)).hit


async def test_large_values_stay_in_memory(caches: Any) -> None:
    one, other = await caches("one", largest_shared=1000), await caches("other")
    large = Made(b"x" * 2000)

    async def make() -> Made:
        return large

    await one.fetch(KEY, make, ttl_s=60)
    assert one.peek(KEY, 60) == large.value
    assert not (await other.fetch(KEY, Maker(), ttl_s=60)).hit


async def test_a_bus_that_does_not_answer_is_a_cache_that_has_nothing(
    connect: Any, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dspex_services.cache.shared._PATIENCE_S", 0.1)
    async with connect("one") as bus:
        cache, maker = Cache(bus), Maker()
    assert (await cache.fetch(KEY, maker, ttl_s=60)).value == b"value 1"
    assert (await cache.fetch(KEY, maker, ttl_s=60)).hit


async def test_clearing_and_reporting_over_the_bus(caches: Any, connect: Any) -> None:
    from dspex_services.cache.asking import clear, reports, stored

    one, other, maker = await caches("one"), await caches("other"), Maker()
    step = key("step", 1)
    for cache in (one, other):
        await cache.fetch(KEY, maker, ttl_s=60)
        await cache.fetch(step, maker, ttl_s=60)
    async with connect("asker") as bus:
        found = await reports(bus, wait_s=0.5)
        assert [(report.worker, report.entries) for report in found] == [("one", 2), ("other", 2)]
        assert await stored(bus) == {"lm": 0, "step": 1, "value": 1}
        assert await clear(bus, "step") == 1
        await until(lambda: len(one.memory) == len(other.memory) == 1)
        assert await stored(bus) == {"lm": 0, "step": 0, "value": 1}
        assert await clear(bus) == 1
        await until(lambda: not len(one.memory) and not len(other.memory))
    assert not (await one.fetch(KEY, maker, ttl_s=60)).hit


def test_a_key_does_not_depend_on_the_order_of_a_mapping() -> None:
    assert key("lm", {"a": 1, "b": [2]}) == key("lm", {"b": [2], "a": 1})
    assert len({key("lm", 1), key("lm", "1"), key("lm", [1]), key("step", 1), key("lm", 1, 2), key("lm", [1, 2])}) == 6


def test_the_closer_to_the_end_the_likelier_a_renewal() -> None:
    entry = Entry(b"", 0.0, 100.0, 2.0)
    assert not is_due(entry, 1000, 50.0, 0.5)
    assert not is_due(entry, 1000, 97.0, 0.5)
    assert is_due(entry, 1000, 99.0, 0.5)
    assert is_due(entry, 1000, 80.0, 1e-6)
    assert is_due(entry, 1000, 100.0, 1.0)
    assert is_due(entry, 30, 31.0, 1.0)
    assert not is_fresh(None, 10, 0)


def test_what_another_version_wrote_counts_as_nothing() -> None:
    assert decode(encode(Entry(b"v", 1, 2, 3))) == Entry(b"v", 1, 2, 3)
    assert decode(b"{}") is None


def test_memory_keeps_the_most_recently_used_up_to_its_size() -> None:
    memory = Memory(3 * (100 + 256))
    for name in "abc":
        memory.put(name, Entry(b"x" * 100, 0, 1, 0))
    memory.get("a")
    memory.put("d", Entry(b"x" * 100, 0, 1, 0))
    assert [name for name in "abcd" if memory.get(name)] == ["a", "c", "d"]
    memory.put("a", Entry(b"x" * 10, 0, 1, 0))
    assert memory.bytes == 2 * 356 + 266
    memory.put("huge", Entry(b"x" * 2000, 0, 1, 0))
    assert memory.get("huge") is None
    assert len(memory) == 3


async def test_a_lease_that_cannot_be_given_back_costs_nobody_what_was_made(
    caches: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    async def never(lease: Lease, error: Any = None) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(Lease, "release", never)
    monkeypatch.setattr("dspex_services.cache.cache._RELEASE_S", 0.01)
    cache = await caches()
    assert await cache.fetch(KEY, Maker(), ttl_s=60) == Found(b"value 1", False)
    assert "was not given back in time" in caplog.text
