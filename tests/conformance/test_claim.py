"""The claim check: bodies too large for a message."""

from __future__ import annotations

import anyio
import pytest

from dspex_bus import Bus, Message, subjects
from dspex_bus.claim import LARGE_BYTES, OBJECT, OBJECT_DIGEST, Claims, claimed
from dspex_bus.errors import ObjectGone, PayloadTooLarge, Unavailable
from dspex_bus.streams import EVENTS, OBJECTS, buckets, streams

from .conftest import Place

pytestmark = pytest.mark.anyio

LARGE = b"x" * (LARGE_BYTES + 1)


@pytest.fixture
async def claims(place: Place, bus: Bus) -> Claims:
    await bus.prepare(streams(tasks="memory"), buckets(largest=4 * LARGE_BYTES))
    return Claims(bus)


def end(place: Place) -> str:
    return subjects.end(0, place.id)


async def objects_of(bus: Bus, session: str) -> list[str]:
    contents = await bus.objects(OBJECTS).contents()
    return [info.name for info in contents if subjects.split_object(info.name) == session]


async def test_what_is_small_is_left_alone(place: Place, bus: Bus, claims: Claims) -> None:
    data, headers = b"x" * LARGE_BYTES, {"a": "b"}
    packed = await claims.pack(end(place), data, headers)
    assert packed[0] is data
    assert packed[1] is headers
    assert await claims.unpack(end(place), data, {OBJECT: "not looked at"}) is data
    assert await claims.unpack(end(place), b"", {"a": "b"}) == b""


async def test_what_is_large_is_an_object_of_its_session(place: Place, bus: Bus, claims: Claims) -> None:
    data, headers = await claims.pack(end(place), LARGE, {"a": "b"})
    assert data == b""
    assert headers is not None
    assert headers["a"] == "b"
    assert await objects_of(bus, place.id) == [headers[OBJECT]]
    assert headers[OBJECT].startswith(f"{place.id}.end.")
    elsewhere = Claims(await place.bus())
    assert await elsewhere.unpack(end(place), data, headers) == LARGE
    assert await elsewhere.unpack(subjects.EVENT + end(place).removeprefix(subjects.JOURNAL), data, headers) == LARGE
    await claims.drop(end(place), headers)
    assert await objects_of(bus, place.id) == []


async def test_an_object_that_is_gone_or_another(place: Place, bus: Bus, claims: Claims) -> None:
    data, headers = await claims.pack(end(place), LARGE)
    assert headers is not None
    await bus.objects(OBJECTS).put(headers[OBJECT], b"something else")
    with pytest.raises(ObjectGone, match="is another"):
        await claims.unpack(end(place), data, headers)
    await claims.drop(end(place), headers)
    with pytest.raises(ObjectGone, match=f"{headers[OBJECT]}.* is gone") as gone:
        await claims.unpack(end(place), data, headers)
    assert gone.value.details == {"subject": end(place)}


async def test_a_message_cannot_name_what_belongs_to_another_session(place: Place, bus: Bus, claims: Claims) -> None:
    _, headers = await claims.pack(end(place), LARGE)
    for subject in (subjects.end(0, "another"), subjects.run("inline"), subjects.task("p", "l", "other", "0", 1)):
        with pytest.raises(ObjectGone, match="cannot be"):
            await claims.unpack(subject, b"", headers)
        await claims.drop(subject, headers)
    assert len(await objects_of(bus, place.id)) == 1


async def test_past_the_limit_of_the_bucket(place: Place, bus: Bus, claims: Claims) -> None:
    with pytest.raises(PayloadTooLarge) as refusal:
        await claims.pack(end(place), b"x" * (4 * LARGE_BYTES + 1))
    assert refusal.value.details == {"size": 4 * LARGE_BYTES + 1, "limit": 4 * LARGE_BYTES}
    assert await objects_of(bus, place.id) == []


async def test_who_comes_second_to_a_slot_takes_its_object_away(place: Place, bus: Bus, claims: Claims) -> None:
    first = await claims.store_once(end(place), LARGE)
    second = await claims.store_once(end(place), b"y" * len(LARGE))
    assert (first.created, second.created) == (True, False)
    held = await bus.last(EVENTS, end(place))
    assert held is not None
    assert await objects_of(bus, place.id) == [claimed(held.data, held.headers)]
    assert await claims.unpack(end(place), held.data, held.headers) == LARGE


async def test_a_slot_filled_by_the_same_message_keeps_its_object(place: Place, bus: Bus, claims: Claims) -> None:
    """Sent again, because the first answer was lost: the second finds the slot filled, by the first."""
    data, headers = await claims.pack(end(place), LARGE)
    await bus.store_and_wait(end(place), data, headers=headers, once=True)
    assert not (await bus.store_and_wait(end(place), data, headers=headers, once=True)).created
    await claims.drop_unless_stored(end(place), headers)
    assert await claims.unpack(end(place), data, headers) == LARGE


async def test_a_message_that_others_followed_keeps_its_object(place: Place, bus: Bus, claims: Claims) -> None:
    subject = subjects.snapshot(0, place.id)
    data, headers = await claims.pack(subject, LARGE)
    for body, told in ((b"before", None), (data, headers), (b"behind", None)):
        await bus.store_and_wait(subject, body, headers=told)
    await claims.drop_unless_stored(subject, headers)
    assert await claims.unpack(subject, data, headers) == LARGE


async def test_requests_and_answers(place: Place, bus: Bus, claims: Claims) -> None:
    subject = place.subject("asked")
    heard: list[bytes] = []

    async def answer(message: Message) -> None:
        heard.append(await claims.unpack(message.subject, message.data, message.headers))
        await claims.drop(message.subject, message.headers)
        body, headers = await claims.pack(message.reply, heard[-1] + b"!", {"a": "b"})
        await bus.publish(message.reply, body, headers=headers)

    before = len(await objects_of(bus, ""))
    await bus.subscribe(subject, answer)
    with anyio.fail_after(10):
        for asked in (b"small", LARGE):
            reply = await Claims(await place.bus()).request(subject, asked)
            assert reply.data == asked + b"!"
            assert reply.headers is not None
            assert reply.headers["a"] == "b"
    assert heard == [b"small", LARGE]
    assert len(await objects_of(bus, "")) == before


async def test_a_request_that_nobody_hears_leaves_nothing(place: Place, bus: Bus, claims: Claims) -> None:
    before = len(await objects_of(bus, ""))
    with pytest.raises(Unavailable) as refusal:
        await claims.request(place.subject("nobody"), LARGE)
    assert refusal.value.code == "no_responders"
    assert len(await objects_of(bus, "")) == before


async def test_a_claim_without_a_digest_is_believed(place: Place, bus: Bus, claims: Claims) -> None:
    """Other clients may leave it out."""
    data, headers = await claims.pack(subjects.run("inline"), LARGE)
    told = {name: value for name, value in (headers or {}).items() if name != OBJECT_DIGEST}
    assert await claims.unpack(subjects.run("inline"), data, told) == LARGE
