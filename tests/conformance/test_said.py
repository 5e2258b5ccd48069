"""What is said and not stored: publish, queue groups, requests, services."""

from __future__ import annotations

import json

import anyio
import pytest

from dspex_bus import Bus, Endpoint, Message, Request, ServiceSpec
from dspex_bus.errors import DeadlineExceeded, InvalidName, PayloadTooLarge, Unavailable

from .conftest import Gathered, Place, data_of

pytestmark = pytest.mark.anyio


async def test_a_message_comes_as_it_was_sent(place: Place, bus: Bus, gathered: Gathered) -> None:
    await bus.subscribe(place.subject("a.*"), gathered.put)
    await bus.publish(place.subject("a.b"), b"\x00\xff", reply="back", headers={"One": "1", "Two": "a b: c"})
    (message,) = await gathered.count(1)
    assert (message.subject, message.data, message.reply) == (place.subject("a.b"), b"\x00\xff", "back")
    assert dict(message.headers or {}) == {"One": "1", "Two": "a b: c"}


async def test_order_is_kept_and_callbacks_run_one_at_a_time(place: Place, bus: Bus, gathered: Gathered) -> None:
    await bus.subscribe(place.subject("n"), gathered.put)
    for number in range(200):
        await bus.publish(place.subject("n"), str(number).encode())
    assert data_of(await gathered.count(200)) == [str(number).encode() for number in range(200)]


@pytest.mark.parametrize(
    ("pattern", "subject", "matches"),
    [("a.*", "a.b", True), ("a.*", "a.b.c", False), ("a.>", "a.b.c", True), ("a.>", "a", False), ("a", "a", True)],
)
async def test_wildcards(place: Place, bus: Bus, gathered: Gathered, pattern: str, subject: str, matches: bool) -> None:
    await bus.subscribe(place.subject(pattern), gathered.put)
    await bus.subscribe(place.subject("last"), gathered.put)
    await bus.publish(place.subject(subject), b"1")
    await bus.publish(place.subject("last"), b"last")
    found = data_of(await gathered.until(lambda items: items[-1:] != [] and items[-1].data == b"last"))
    assert found == ([b"1", b"last"] if matches else [b"last"])


async def test_one_of_a_queue_group_gets_each_message_and_everybody_else_too(
    place: Place, bus: Bus, gathered: Gathered
) -> None:
    members = Gathered()
    for client in (bus, await place.bus()):
        await client.subscribe(place.subject("q"), members.put, queue="pool")
    await bus.subscribe(place.subject("q"), gathered.put)
    for number in range(50):
        await bus.publish(place.subject("q"), str(number).encode())
    await gathered.count(50)
    assert sorted(int(item.data) for item in await members.count(50)) == list(range(50))


async def test_a_closed_subscription_hears_nothing(place: Place, bus: Bus, gathered: Gathered) -> None:
    closed = await bus.subscribe(place.subject("x"), gathered.put)
    await closed.close()
    await closed.close()
    await bus.subscribe(place.subject("y"), gathered.put)
    await bus.publish(place.subject("x"), b"no")
    await bus.publish(place.subject("y"), b"yes")
    assert data_of(await gathered.count(1)) == [b"yes"]


async def test_who_is_cancelled_while_subscribed_hears_nothing_more(place: Place, bus: Bus, gathered: Gathered) -> None:
    with anyio.CancelScope() as scope:
        async with bus.subscribed(place.subject("x"), gathered.put):
            await bus.publish(place.subject("x"), b"heard")
            await gathered.count(1)
            scope.cancel()
            await anyio.sleep_forever()
    await bus.subscribe(place.subject("y"), gathered.put)
    await bus.publish(place.subject("x"), b"no")
    await bus.publish(place.subject("y"), b"yes")
    assert data_of(await gathered.count(2)) == [b"heard", b"yes"]


async def test_request_and_answer(place: Place, bus: Bus) -> None:
    async def answer(message: Message) -> None:
        await bus.publish(message.reply, message.data.upper(), headers={"Said": (message.headers or {})["Asked"]})

    await bus.subscribe(place.subject("ask"), answer)
    reply = await (await place.bus()).request(place.subject("ask"), b"hello", headers={"Asked": "politely"})
    assert (reply.data, (reply.headers or {})["Said"]) == (b"HELLO", "politely")


async def test_nobody_listens(place: Place, bus: Bus) -> None:
    with pytest.raises(Unavailable) as refusal:
        await bus.request(place.subject("nobody"), timeout_s=10)
    assert refusal.value.code == "no_responders"


async def test_nobody_answers(place: Place, bus: Bus, gathered: Gathered) -> None:
    await bus.subscribe(place.subject("silent"), gathered.put)
    with pytest.raises(DeadlineExceeded):
        await bus.request(place.subject("silent"), timeout_s=0.1)


async def test_more_than_the_server_carries(place: Place, bus: Bus) -> None:
    big = b"x" * (bus.max_payload + 1)
    for attempt in (bus.publish(place.subject("x"), big), bus.request(place.subject("x"), big)):
        with pytest.raises(PayloadTooLarge) as refusal:
            await attempt
        assert refusal.value.details["limit"] == bus.max_payload
    with pytest.raises(PayloadTooLarge):
        await bus.store_and_wait(place.subject("log.x"), big, once=True)


def service(place: Place, answer: object) -> ServiceSpec:
    endpoint = Endpoint(name="ask", subject=place.subject("svc.*"), handle=answer, metadata={"schema": "{}"})  # type: ignore[arg-type]
    return ServiceSpec(
        name=f"svc-{place.id}", version="1.2.3", description="Answers.", endpoints=[endpoint], queue="router"
    )


async def test_a_service_answers_and_is_seen(place: Place, bus: Bus) -> None:
    async def answer(request: Request) -> None:
        await request.respond(request.subject.encode(), {"Content-Type": "text/plain"})

    served = await bus.serve(service(place, answer))
    client = await place.bus()
    reply = await client.request(place.subject("svc.one"))
    assert (reply.data, (reply.headers or {})["Content-Type"]) == (place.subject("svc.one").encode(), "text/plain")

    info = json.loads((await client.request(f"$SRV.INFO.svc-{place.id}")).data)
    assert (info["name"], info["version"]) == (f"svc-{place.id}", "1.2.3")
    assert info["endpoints"][0]["subject"] == place.subject("svc.*")
    assert info["endpoints"][0]["metadata"]["schema"] == "{}"
    assert json.loads((await client.request(f"$SRV.PING.svc-{place.id}")).data)["id"] == info["id"]
    stats = json.loads((await client.request(f"$SRV.STATS.svc-{place.id}.{info['id']}")).data)
    assert stats["endpoints"][0]["num_requests"] == 1
    await served.close()
    with pytest.raises(Unavailable):
        await client.request(place.subject("svc.one"), timeout_s=2)


async def test_a_service_s_error_is_an_answer_with_its_headers(place: Place, bus: Bus) -> None:
    async def answer(request: Request) -> None:
        await request.respond_error(404, "there is none", b'{"code":"not_found"}')

    await bus.serve(service(place, answer))
    reply = await bus.request(place.subject("svc.one"))
    headers = reply.headers or {}
    assert (headers["Nats-Service-Error-Code"], headers["Nats-Service-Error"]) == ("404", "there is none")
    assert json.loads(reply.data) == {"code": "not_found"}


async def test_a_handler_that_raises_is_answered_for(place: Place, bus: Bus) -> None:
    async def answer(request: Request) -> None:
        if request.data == b"bad":
            raise ValueError("what a request")
        await request.respond(b"fine")

    await bus.serve(service(place, answer))
    client = await place.bus()
    reply = await client.request(place.subject("svc.one"), b"bad", timeout_s=5)
    assert (reply.headers or {})["Nats-Service-Error-Code"] == "500"
    assert json.loads(reply.data) == {"code": "internal", "message": "ValueError: what a request"}
    assert (await client.request(place.subject("svc.one"), timeout_s=5)).data == b"fine"
    (stats,) = json.loads((await client.request(f"$SRV.STATS.svc-{place.id}")).data)["endpoints"]
    assert (stats["num_requests"], stats["num_errors"]) == (2, 1)
    assert stats["last_error"] == "500:ValueError: what a request"
    assert stats["processing_time"] >= stats["average_processing_time"] > 0


async def test_a_request_that_wants_no_answer(place: Place, bus: Bus, gathered: Gathered) -> None:
    async def answer(request: Request) -> None:
        await request.respond(b"to nobody")
        await request.respond_error(400, "nor\nthis", b"")
        await gathered.put(request)

    await bus.serve(service(place, answer))
    await bus.publish(place.subject("svc.one"), b"said")
    await bus.publish(f"$SRV.PING.svc-{place.id}")
    (request,) = await gathered.count(1)
    assert (request.data, request.reply) == (b"said", "")
    (stats,) = json.loads((await bus.request(f"$SRV.STATS.svc-{place.id}")).data)["endpoints"]
    assert stats["last_error"] == "400:nor this"


async def test_replicas_of_a_service_share_its_requests(place: Place, bus: Bus) -> None:
    counts = [0, 0]

    def counting(which: int) -> object:
        async def answer(request: Request) -> None:
            counts[which] += 1
            await request.respond(b"")

        return answer

    await bus.serve(service(place, counting(0)))
    await (await place.bus()).serve(service(place, counting(1)))
    for _ in range(60):
        await bus.request(place.subject("svc.one"))
    assert sum(counts) == 60
    assert min(counts) > 0


async def test_a_callback_that_closes_its_subscription_hears_nothing_more(
    place: Place, bus: Bus, gathered: Gathered
) -> None:
    async def once(message: Message) -> None:
        await subscription.close()
        await gathered.put(message)

    subscription = await bus.subscribe(place.subject("x"), once)
    for number in range(3):
        await bus.publish(place.subject("x"), b"%d" % number)
    await gathered.count(1)
    await bus.subscribe(place.subject("x"), gathered.put)
    await bus.publish(place.subject("x"), b"end")
    assert data_of(await gathered.until(lambda items: items[-1].data == b"end")) == [b"0", b"end"]


async def test_what_has_come_is_still_handed_over_at_a_close(place: Place, bus: Bus) -> None:
    got: list[bytes] = []

    async def slowly(message: Message) -> None:
        await anyio.sleep(0.001)
        got.append(message.data)

    subscription = await bus.subscribe(place.subject("x"), slowly)
    for number in range(50):
        await bus.publish(place.subject("x"), b"%d" % number)
    await subscription.close()
    assert got == [b"%d" % number for number in range(50)]


async def test_a_callback_that_raises_hears_what_comes_next(place: Place, bus: Bus, gathered: Gathered) -> None:
    async def callback(message: Message) -> None:
        await gathered.put(message)
        raise ValueError("what a message")

    await bus.subscribe(place.subject("x"), callback)
    await bus.publish(place.subject("x"), b"1")
    await bus.publish(place.subject("x"), b"2")
    assert data_of(await gathered.count(2)) == [b"1", b"2"]


@pytest.mark.parametrize("subject", ["", "two words", "line\r\nPING", "tab\t"])
async def test_what_can_be_no_subject(bus: Bus, subject: str) -> None:
    for attempt in (bus.publish(subject), bus.request(subject), bus.store(subject, b"", once=True)):
        with pytest.raises(InvalidName):
            await attempt


async def test_a_bus_has_a_name_and_is_there(bus: Bus) -> None:
    assert bus.connected
    assert bus.name
    assert bus.max_payload >= 1024 * 1024
